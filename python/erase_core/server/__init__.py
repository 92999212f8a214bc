"""`erase serve`: an OpenAI-compatible server that puts a store's demonstrations into chats, and forgets over HTTP.

Needs the extra `serve`. Nothing here is imported by the rest of the package but by the command.
"""
