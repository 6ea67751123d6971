"""The gates of a server: what its clients rely on, asked over HTTP and judged."""
