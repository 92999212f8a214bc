"""Examples: what one is, and reading them from files, tables and chats."""
