"""``worldenv serve``: environments over WebSocket, several sessions of one world in one model call."""
