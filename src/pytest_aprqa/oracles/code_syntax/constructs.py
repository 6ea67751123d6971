"""Which syntax-tree nodes are code beyond doubt, and which shell words are commands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_aprqa.oracles.text import listed

if TYPE_CHECKING:
    from tree_sitter import Node

_SCRIPT = (
    "function_declaration generator_function_declaration lexical_declaration variable_declaration "
    "class_declaration method_definition arrow_function function_expression call_expression "
    "assignment_expression if_statement for_statement for_in_statement while_statement "
    "return_statement import_statement export_statement new_expression try_statement "
    "switch_statement augmented_assignment_expression update_expression binary_expression "
    "jsx_element throw_statement await_expression"
)
_C = (
    "function_definition preproc_include preproc_def call_expression if_statement for_statement "
    "while_statement return_statement assignment_expression struct_specifier init_declarator "
    "enum_specifier function_declarator update_expression switch_statement binary_expression "
    "do_statement"
)

CONSTRUCTS: dict[str, frozenset[str]] = {
    name: frozenset(types.split())
    for name, types in {
        "javascript": _SCRIPT,
        "typescript": _SCRIPT + " interface_declaration type_alias_declaration enum_declaration",
        "rust": "function_item let_declaration struct_item enum_item impl_item trait_item "
        "use_declaration macro_invocation call_expression if_expression for_expression "
        "while_expression match_expression return_expression assignment_expression const_item "
        "static_item mod_item macro_definition loop_expression closure_expression type_item "
        "function_signature_item binary_expression compound_assignment_expr",
        "go": "function_declaration method_declaration short_var_declaration var_declaration "
        "type_declaration import_declaration call_expression if_statement for_statement "
        "return_statement assignment_statement const_declaration func_literal inc_statement "
        "binary_expression package_clause go_statement defer_statement",
        "java": "class_declaration method_declaration interface_declaration enum_declaration "
        "record_declaration import_declaration variable_declarator method_invocation if_statement "
        "for_statement enhanced_for_statement while_statement return_statement "
        "assignment_expression object_creation_expression lambda_expression try_statement "
        "constructor_declaration switch_expression update_expression binary_expression",
        "c": _C,
        "cpp": _C + " class_specifier template_declaration using_declaration namespace_definition "
        "lambda_expression for_range_loop try_statement new_expression",
        "sql": "select insert update delete create_table create_index create_view create_function "
        "alter_table drop_table drop_index drop_view cte set_statement create_type "
        "create_database create_schema truncate",
        "bash": "command variable_assignment for_statement while_statement if_statement "
        "case_statement function_definition c_style_for_statement",
    }.items()
}

SQL_RESERVED = frozenset(listed("SELECT FROM WHERE GROUP ORDER HAVING INSERT UPDATE DELETE JOIN"))
"""Words no SQL dialect takes as a bare name; the grammar is more tolerant."""

_COMMANDS = frozenset(
    listed(
        "alias apt apt-get awk base64 basename bash bc brew break bzip2 cargo cat cd chgrp "
        "chmod chown clear cmake cmp comm continue cp crontab curl cut date dd declare df "
        "diff dig dirname dmesg docker du echo egrep env eval exec exit export expr false "
        "fgrep file find free gcc getopts git go grep groups gunzip gzip head help hostname "
        "id ifconfig ip jq kill killall kubectl less ln local locate ls lsof make man md5sum "
        "mkdir mktemp mount mv nc nl node nohup npm npx openssl passwd paste pgrep ping pip "
        "pip3 pkill printf ps pwd python python3 read readlink readonly realpath return rm "
        "rmdir rsync scp sed seq service set sha256sum shift shopt sleep sort source split "
        "ssh stat su sudo systemctl tail tar tee test time timeout top touch tr trap tree "
        "true type ulimit umask uname uniq unset unzip uptime useradd vi vim wait watch wc "
        "wget which while who whoami xargs yes zcat zip . : [ [[ (("
    )
)
_PLAIN = re.compile(r"[A-Za-z]+[,.]?")
_ENGLISH = frozenset(
    listed(
        "the a an is are was to of and or for you your it that this with in on i we can will "
        "be below above following here"
    )
)


def plausible_commands(root: Node) -> bool:
    """Tell a script from prose, which the shell's grammar accepts: its commands are known ones."""
    commands: list[Node] = []
    functions: set[str] = set()
    pending = [root]
    structured = False
    while pending:
        node = pending.pop()
        if node.type == "command":
            commands.append(node)
        elif node.type == "function_definition":
            name = node.child_by_field_name("name")
            functions.add(_text(name) if name else "")
            structured = True
        elif node.type in ("variable_assignment", "for_statement", "if_statement") or node.type in (
            "while_statement",
            "case_statement",
            "c_style_for_statement",
        ):
            structured = True
        pending.extend(node.children)
    if not commands:
        return structured
    known = sum(_is_command(command, functions) for command in commands)
    return known >= 1 and 2 * known >= len(commands)


def _is_command(command: Node, functions: set[str]) -> bool:
    name_node = command.child_by_field_name("name")
    if name_node is None:
        return False
    name = _text(name_node)
    if name.startswith(("./", "/", "$", "~/", '"$')) or name in functions:
        return True
    if name not in _COMMANDS:
        return False
    arguments = [_text(child) for child in command.children if child.id != name_node.id]
    if name in ("echo", "printf") or len(arguments) < 2:
        return True
    plain = all(_PLAIN.fullmatch(argument) for argument in arguments)
    return not (plain and any(argument.lower() in _ENGLISH for argument in arguments))


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")
