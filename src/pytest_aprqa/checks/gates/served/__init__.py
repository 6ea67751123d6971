"""Gates of what is asked over an interface: servers, Ollama, gateways, scenarios, oracles."""
