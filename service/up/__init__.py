"""`radfuse up`: Redis, API, dispatcher and worker on one machine, under supervisord.

    run.py           the command on one page: start, say where it listens, watch, stop
    installation.py  one running installation: lock, migrations, start, look, stop
    home.py          the folders, the lock and the sockets of one installation
    ports.py         whether the API can listen where it should
    programs.py      what runs, in which order, and the configuration of supervisord
    supervisor.py    supervisord as a child: start it, ask it, stop it, leave nothing behind
    watch.py         what is said when a process dies, and the logs on the terminal
    leash.py         ties a process to its parent's life (its own small program)

Processes are tied together from above: when `radfuse up` is killed supervisord gets TERM and shuts all down
in order; when supervisord is killed the kernel kills what it started.
"""
