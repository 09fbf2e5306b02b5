"""The command line: `quarterdeck [serve] --config cp_config.yaml --port 4000`, `migrate`, `rotate-salt-key`, `demo`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from .server.demo.supervisor import run_demo
from .server.serve import ServeOptions, migrate, serve
from .settings import process_environment
from .settings.config_file import SettingsError
from .storage.salt_key_rotation import RotateOptions, rotate_salt_key
from .version import VERSION

_COMMANDS = ("serve", "migrate", "rotate-salt-key", "demo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What cannot start says so in one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `serve` is what the documentation of the field leaves out.
    if not given or (given[0] not in _COMMANDS and given[0] not in ("-h", "--help", "--version", "-v")):
        given.insert(0, "serve")
    options = _parser().parse_args(given)
    try:
        return _run(options)
    except SettingsError as problem:
        print(f"quarterdeck: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.command == "migrate":
        return migrate(options.config)
    if options.command == "rotate-salt-key":
        rotation = RotateOptions(options.config, options.old_key_env, options.old_key_file, options.dry_run)
        print(rotate_salt_key(rotation))
        return 0
    if options.command == "demo":
        return run_demo(options.base_port, process_environment(), start_timeout=options.start_timeout)
    return serve(ServeOptions(options.config, options.host, options.port, options.workers, options.server))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quarterdeck", description="An AI gateway, and the console that commands many."
    )
    parser.add_argument("--version", "-v", action="version", version=f"quarterdeck {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("serve", help="run this instance (the default)")
    run.add_argument("--config", "-c", help="YAML file; default: CONFIG_FILE_PATH, else ./config.yaml")
    run.add_argument("--host", help="address to listen on; default: HOST, else 0.0.0.0")
    run.add_argument("--port", type=int, help="port to listen on; default: PORT, else 4000")
    run.add_argument("--workers", "--num_workers", type=_process_count, help="processes that share the port")
    run.add_argument("--server", choices=("hypercorn", "granian"), default="hypercorn", help="granian costs less CPU")
    apply = commands.add_parser("migrate", help="bring the database up to date")
    apply.add_argument("--config", "-c", help="YAML file; default: CONFIG_FILE_PATH, else ./config.yaml")
    rotate = commands.add_parser("rotate-salt-key", help="encrypt what is stored under the new LITELLM_SALT_KEY")
    rotate.add_argument("--config", "-c", help="YAML file, as for serve")
    source = rotate.add_mutually_exclusive_group()
    source.add_argument("--old-key-env", metavar="NAME", help="variable of the old key; default: OLD_LITELLM_SALT_KEY")
    source.add_argument("--old-key-file", metavar="PATH", help="file that holds the old key")
    rotate.add_argument("--dry-run", action="store_true", help="count and check only, change nothing")
    demo = commands.add_parser("demo", help="a control plane, two workers and a sample provider on this machine")
    demo.add_argument("--base-port", type=int, default=4000, help="port of the control plane; the others follow")
    demo.add_argument(
        "--start-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="give up a process that does not answer after this long; default: wait for it as long as it lives",
    )
    return parser


def _process_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; use 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; use more than 0")
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
