"""A real Valkey and a real Postgres as child processes, with their data in a folder.

For `flashsale up`, the demo and the tests. The programs come from two wheels (the extra `embedded`) and are run directly.

    <data folder>/lock, stores.json
                  valkey/    lock, pid, server.log, valkey.conf, data/, run/   (run/: the Unix socket)
                  postgres/  lock, pid, server.log, data/, run/

Both listen on Unix sockets in folders only their user may enter, so no password is needed there; a TCP port on loopback is
opened only when asked for, and then asks for a password. Started by root, the servers run as `nobody`: Postgres refuses
root, and neither needs it. A server ends when its parent does, whatever ends the parent.

    stores                   both together, restarted when they crash, and found by other processes
    server                   one server's life; valkey and postgres say what is special about theirs
    programs, configuration  what runs, and with which settings
    folders, folder_lock     where, as whom, and only once
    processes                what a server inherits, and how it ends
"""
