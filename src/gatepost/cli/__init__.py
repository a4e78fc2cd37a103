"""
The command line.

Each command is a module of its own and is loaded when it is called, so that `gatepost key list` does not load a web
server. The commands open the store themselves: they work while `serve` runs, and before it ever ran.
"""

import importlib

import click

from gatepost import __version__

_COMMANDS = {
    "serve": "Run the gateway.",
    "demo": "See it work: send sample messages to the sandbox.",
    "send": "Send one message.",
    "explain": "Say where a message is, and why.",
    "queue": "Show what waits; pause and resume sites.",
    "site": "Show mail systems; suspend them, limit what they get.",
    "person": "Invite people to the pages; keep them out.",
    "tenant": "Make, list, suspend and resume tenants.",
    "key": "Make, list, rotate and revoke API keys.",
    "oauth-client": "Make, list, rotate and revoke OAuth clients.",
    "domain": "Add, verify and remove senders' domains.",
    "policy": "Show and change rules on content and recipients.",
    "route": "Show and change which mail takes which roads.",
    "stream": "Show, make and change streams: lane, lifetime, retries, route, hours.",
    "relay": "List relays; ask one whether it would take mail.",
    "tls-policy": "Show what recipients' domains ask of TLS.",
    "feedback": "Say what mail that came back means.",
    "returned": "List what came back and led to nothing; read it once more.",
    "placement": "Test whether mail lands in inboxes.",
    "suppression": "Add, list and remove suppressed addresses.",
    "webhook": "Make, list, change and try webhooks; send events again.",
    "unusual": "List rates that left their own history.",
    "report": "Say who gets daily digests and the weekly report by mail.",
    "usage": "Show what was accepted, and what it cost.",
    "stats": "Show numbers of mail: counts, rates, times.",
    "audit": "Read the audit log; prove that it is whole.",
    "certificate": "List, show and renew the certificates of the doors.",
    "secrets": "Look after the master key; seal passwords for the settings.",
    "migrate": "Bring the database's schema up to date.",
    "settings": "Show every option, its value and where it came from.",
    "doctor": "Check this machine and this data directory.",
}


class _Commands(click.Group):
    """A group that knows its commands by name and loads them late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which one needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name == "_child":
            cmd_name = "child"
        elif cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"gatepost.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatepost")
def main() -> None:
    """Gatepost: mail in over HTTP and SMTP, signed and durable, delivered or explained."""
