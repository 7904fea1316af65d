"""How long a server may say nothing once it was asked; some clients would wait for minutes, others for ever."""

CONNECT, READ = 10, 30  # seconds: to connect, and between two signs of life
