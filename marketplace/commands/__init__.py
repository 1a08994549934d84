"""The commands, one module a noun. `marketplace.cli` imports a module when one of its commands is wanted."""

__all__ = ["COMMANDS"]

COMMANDS = {
    "chat": "marketplace.commands.conversation:chat",
    "completion": "marketplace.commands.completion:completion",
    "configure": "marketplace.commands.configuration:configure",
    "install": "marketplace.commands.installation:install",
    "invoke": "marketplace.commands.invocation:invoke",
    "list": "marketplace.commands.products:list_products",
    "new": "marketplace.skeleton:new",
    "schema": "marketplace.commands.products:schema",
    "services": "marketplace.commands.services:services",
    "show": "marketplace.commands.products:show",
    "uninstall": "marketplace.commands.removal:uninstall",
}
"""Where each command is, by its name."""
