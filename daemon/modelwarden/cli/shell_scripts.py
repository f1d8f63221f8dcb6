"""The scripts by which bash, zsh and fish complete `modelwarden`, made from the commands.

The rule: a name comes from a summary, and whoever writes those must not write commands: no script evaluates a name, and
what is put on the line is quoted. Commands and options stand in the script, so that they cost no process.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from modelwarden.cli.tree import Command, Option

OF_ARCHIVE: Final = ("RUN", "SYMBOL", "DEST", "ID", "FLAG|METRIC")
"""What an argument is called whose values `modelwarden complete` tells."""


class Shell(StrEnum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(shell: Shell, tree: Command) -> str:
    """The script for a shell."""
    return _SCRIPTS[shell](tree)


def _bash(tree: Command) -> str:
    cases = "\n".join(
        f"        {_word(_at(each))}) words={_word(' '.join(_words(each)))} kind={_kind(each)} ;;"
        for each in tree.all()
    )
    return f"""# bash completion for modelwarden; made by `modelwarden completion bash`.
_modelwarden() {{
    local command="" words="" kind="" i name
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{command:+$command }}${{COMP_WORDS[i]}}" in
            {_patterns(tree)}) command+="${{command:+ }}${{COMP_WORDS[i]}}" ;;
        esac
    done
    case $command in
{cases}
    esac
    case $before in
{_value_cases(tree, "kind={kind} words=")}
    esac
    case $kind in
        FILE) [[ $word == -* ]] || {{ compopt -o default; return; }} ;;
        DIR) compopt -o dirnames; return ;;
        NONE | SHELL) ;;
        ?*)
            if [[ $word != -* ]]; then
                while IFS= read -r name; do
                    COMPREPLY+=("$(printf %q "$name")")
                done < <("${{COMP_WORDS[0]}}" complete -- $kind "$word" "${{COMP_WORDS[@]:1:COMP_CWORD-1}}" 2>/dev/null)
                return
            fi ;;
    esac
    while IFS= read -r name; do
        COMPREPLY+=("$name")
    done < <(compgen -W "$words" -- "$word")
}}
complete -F _modelwarden modelwarden
"""


def _zsh(tree: Command) -> str:
    cases = "\n".join(
        f"        ({_word(_at(each))}) kind={_kind(each)}\n            offered=({' '.join(_described(each))}) ;;"
        for each in tree.all()
    )
    return f"""#compdef modelwarden
# zsh completion for modelwarden; made by `modelwarden completion zsh`.
_modelwarden() {{
    local command="" kind="" i
    local -a offered names
    for ((i = 2; i < CURRENT; i++)); do
        case "${{command:+$command }}${{words[i]}}" in
            ({_patterns(tree)}) command+="${{command:+ }}${{words[i]}}" ;;
        esac
    done
    case $command in
{cases}
    esac
    case ${{words[CURRENT-1]}} in
{_value_cases(tree, "kind={kind}; offered=()", opening="(")}
    esac
    case $kind in
        (FILE) [[ $PREFIX == -* ]] || {{ _files; return }} ;;
        (DIR) _files -/; return ;;
        (NONE|SHELL) ;;
        (?*)
            if [[ $PREFIX != -* ]]; then
                names=(${{(f)"$(${{words[1]}} complete -- $kind "$PREFIX" "${{(@)words[2,CURRENT-1]}}" 2>/dev/null)"}})
                compadd -- $names
                return
            fi ;;
    esac
    (( $#offered )) && _describe -t commands modelwarden offered
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _modelwarden "$@"
else
    compdef _modelwarden modelwarden
fi
"""


def _fish(tree: Command) -> str:
    lines = []
    for each in tree.all():
        rule = f"complete -c modelwarden -n '__modelwarden_at {_at(each)}'"
        lines += [f"{rule} -a {below.words[-1]} -d {_fish_text(below.summary)}" for below in each.commands]
        lines += [f"{rule}{_fish_option(option)}" for option in each.options]
        kind = _kind(each)
        if kind == "FILE":
            lines.append(f"{rule} -F")
        elif kind == "SHELL":
            lines.append(f"{rule} -a '{' '.join(Shell)}'")
        elif kind:
            lines.append(f"{rule} -a '(__modelwarden_names {kind})'")
    body = "\n".join(lines)
    patterns = " ".join(_word(_at(each)) for each in tree.all() if each.words)
    return f"""# fish completion for modelwarden; made by `modelwarden completion fish`.
function __modelwarden_at
    set -l at
    for word in (commandline -opc)[2..]
        contains -- (string join ' ' -- $at $word) {patterns}
        and set -a at $word
    end
    test "$at" = "$argv"
end
function __modelwarden_names
    set -l line (commandline -opc)
    $line[1] complete -- $argv[1] (commandline -ct) $line[2..] 2>/dev/null
end
complete -c modelwarden -f
{body}
"""


_SCRIPTS: Final[Mapping[Shell, Callable[[Command], str]]] = {Shell.BASH: _bash, Shell.ZSH: _zsh, Shell.FISH: _fish}


def _at(command: Command) -> str:
    return " ".join(command.words)


def _word(text: str) -> str:
    """A text of ours as one word for bash and zsh: none has a quote in it but as a part of prose."""
    return "'" + text.replace("'", "'\\''") + "'"


def _words(command: Command) -> list[str]:
    """What may stand there: commands, options, or the names of the shells."""
    shells = [*Shell] if _kind(command) == "SHELL" else []
    return [each.words[-1] for each in command.commands] + shells + _option_names(command)


def _option_names(command: Command) -> list[str]:
    return [name for option in command.options for name in option.names] + ["--help"]


def _kind(command: Command) -> str:
    """What its arguments are called, if that can be completed; "" else. Of several any may come next: RUN+SYMBOL."""
    kinds = [each.value for each in command.arguments]
    for whole in ("FILE", "SHELL"):
        if whole in kinds:
            return whole
    return "+".join(dict.fromkeys(kind.replace("|", "-") for kind in kinds if kind in OF_ARCHIVE))


def _patterns(tree: Command) -> str:
    return "|".join(_word(_at(each)) for each in tree.all() if each.words)


def _value_cases(tree: Command, then: str, opening: str = "") -> str:
    """What comes after an option that wants a value. An option means the same in every command."""
    kinds: dict[str, list[str]] = {}
    for command in tree.all():
        for option in command.options:
            if option.value:
                names = kinds.setdefault(option.value if option.value in {"FILE", "DIR"} else "NONE", [])
                names += [name for name in option.names if name not in names]
    return "\n".join(
        f"        {opening}{'|'.join(names)}) {then.format(kind=kind)} ;;" for kind, names in kinds.items()
    )


def _described(command: Command) -> Iterator[str]:
    for below in command.commands:
        yield _word(f"{below.words[-1]}:{below.summary}")
    if _kind(command) == "SHELL":
        yield from Shell
    for option in command.options:
        for name in option.names:
            yield _word(f"{name}:{option.help}")
    yield _word("--help:Print what it does and exit.")


def _fish_option(option: Option) -> str:
    names = "".join(f" -{'l' if name.startswith('--') else 's'} {name.lstrip('-')}" for name in option.names)
    value = {"": "", "FILE": " -r -F", "DIR": " -x -a '(__fish_complete_directories)'"}.get(option.value, " -x")
    return f"{names}{value} -d {_fish_text(option.help)}"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
