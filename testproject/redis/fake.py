"""Serve fakeredis on a loopback port, for as long as this process lives: `python fake.py PORT`."""

from __future__ import annotations

import sys

from fakeredis import TcpFakeServer


def main() -> None:
    with TcpFakeServer(("127.0.0.1", int(sys.argv[1]))) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
