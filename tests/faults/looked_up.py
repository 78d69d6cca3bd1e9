"""Runs commands in one process and prints, as JSON, the names looked up and the addresses connected to meanwhile.

``python looked_up.py COMMANDS``: a JSON list of lists, each with the module and its arguments.
"""

import json
import runpy
import sys

EVENTS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto")
seen = []


def note(event, arguments):
    if event in EVENTS:
        place = arguments[0] if event.startswith("socket.get") else arguments[1]
        # A path is that of a pipe between processes of this machine.
        if not isinstance(place, str) or event.startswith("socket.get"):
            seen.append([event, str(place[0]) if isinstance(place, tuple) else str(place)])


def main():
    sys.addaudithook(note)
    for words in json.loads(sys.argv[1]):
        sys.argv = words
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
