"""Examples: their fields, and how they are read from files, tables and chats."""
