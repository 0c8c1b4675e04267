"""How ``gunicorn wsgi:app`` serves. gunicorn finds this file by its name; its own command-line options win."""

import contextlib
import logging.handlers
import os
import re

from gunicorn.glogging import Logger
from gunicorn.systemd import sd_notify

# Loopback: the world comes through a proxy with TLS. Sockets that systemd hands over (deploy/coinslot.socket) win.
bind = os.environ.get("COINSLOT_BIND", "127.0.0.1:8000")
umask = 0o007  # of a Unix socket made here: who reaches it may claim any address, so it is the user's and the group's
# SQLite has one writer at a time, so more workers buy little; set here because this file would overrule the variable.
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
# Waiting for the disk together is what makes grouped commits pay; and bulk calls that wait for their turn must leave
# some for orders (MOST_AT_ONCE in coinslot/store/portions.py).
threads = 16
timeout = 30
graceful_timeout = 20  # longer than any write may wait
keepalive = 15
calls_per_connection = 20  # ours, for pre_request below
limit_request_line = 8190  # Playtem's whole purchase is in the query string
limit_request_fields = 64  # as handlers/kit/headers.py has it, which counts lines of one name together
limit_request_field_size = 8190
control_socket_disable = True  # one socket per user would be shared by every installation on the machine
forwarded_allow_ips = ""  # gunicorn itself believes no proxy header; COINSLOT_TRUSTED_PROXIES decides, in app.py
# For an access log, which is off by default: the path without its query, which holds Playtem's signature. The time and
# the call's id stand before it, as in every line.
access_log_format = '%(h)s "%(m)s %(U)s %(H)s" %(s)s %(b)s %(M)sms'


class OneFormat(Logger):
    """gunicorn's own lines look like the application's, whatever its version writes by itself."""

    def setup(self, cfg):
        from coinslot.base.log_lines import LogLines

        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            if not isinstance(handler, logging.handlers.SysLogHandler):  # which adds a time itself
                handler.setFormatter(LogLines())


logger_class = OneFormat


def _leave_out_what_was_sent(record):
    """gunicorn quotes the request in its complaints: a malformed line or a query may hold a signature or a token."""
    message = record.getMessage()
    if message.startswith("Invalid request"):
        record.msg, record.args = message.partition(": ")[0], ()
    elif message.startswith("Error handling request"):
        record.msg, record.args = re.sub(r"\?.*", "?(query left out)", message), ()
    return True


def on_starting(server):
    """Before anything is served: folder, database and key exist and belong together, or the start fails in words."""
    from app import create_app
    from coinslot.access.vault import VaultError
    from coinslot.store.db import DatabaseError, EngineError

    log = logging.getLogger("gunicorn.error")
    log.addFilter(_leave_out_what_was_sent)
    # gunicorn says READY to systemd after this. Meanwhile `systemctl status` shows why it takes long.
    sd_notify("STATUS=Looks at key and database; runs the steps of the schema, where it is older", log)
    try:
        server.coinslot = create_app().extensions["coinslot"]
        server.coinslot.prepare()
        server.setup_path = server.coinslot.new_setup_link(base="")
        server.coinslot.database.close()  # no connection of the master's crosses into a worker
    except (DatabaseError, VaultError, EngineError, OSError, ValueError) as error:
        raise SystemExit(f"Coinslot does not start: {error}") from None


def when_ready(server):
    """The one token that ever reaches a log: the link on which the owner sets the first password."""
    if server.setup_path is not None:
        link = f"{_base(server)}{server.setup_path}"
        server.log.info("Set up this installation (the link is good for one hour): %s", link)
    paths = [each.cfg_addr for each in server.LISTENERS if isinstance(each.cfg_addr, str)]
    if paths and server.coinslot.settings.trusted_proxies == 0:
        why = "COINSLOT_TRUSTED_PROXIES is 0, but only a proxy can say who calls there: allowlists let nobody in"
        server.log.warning("%s: %s", paths[0], why)


def _base(server):
    """Where the owner's browser finds this server: the public URL that was set, else the first port it listens on."""
    import ipaddress
    import socket

    if os.environ.get("COINSLOT_PUBLIC_URL"):
        return server.coinslot.settings.public_url
    for listener in server.LISTENERS:
        if listener.sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port = listener.sock.getsockname()[:2]
            if ipaddress.ip_address(host).is_unspecified:
                host = "::1" if ":" in host else "127.0.0.1"
            scheme = "https" if server.cfg.is_ssl else "http"
            return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    return "(the address of your proxy)"  # a Unix socket alone: no browser reaches it without one


def pre_fork(server, worker):
    """Choose the worker's processor: the one that fewest of the others have.

    All threads of a worker share one interpreter lock, so they cannot compute at the same time, and hand it on some
    twenty times per call. Waking a thread on another processor, which may be asleep, costs a virtual machine more than
    the work that follows; on the same processor it costs next to nothing.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        processors = sorted(os.sched_getaffinity(0))
        first = server.pid % len(processors)  # several installations on one machine begin at different ones
        taken = [other.processor for other in server.WORKERS.values()]
        worker.processor = min(processors[first:] + processors[:first], key=taken.count)


def post_fork(server, worker):
    if hasattr(worker, "processor"):
        with contextlib.suppress(OSError):  # forbidden, or the processor is gone: it serves all the same
            os.sched_setaffinity(0, {worker.processor})


def pre_request(worker, request):
    """After some calls a connection is closed, and the next one goes to the worker that is free to take it.

    A proxy keeps its connections for hours, and which worker has them is chance: one with most of them serves at the
    pace of one processor while the other rests.
    """
    if request.req_number % calls_per_connection == 0:
        request.force_close()


def post_worker_init(worker):
    """The relay is a thread of each worker: the one command also delivers and runs what is due.

    Leases make any number of them safe.
    """
    import gc
    import threading

    gc.freeze()  # what the application is made of stays; what comes and goes is looked through without it
    coinslot = worker.wsgi.extensions.get("coinslot")
    if coinslot is not None and coinslot.settings.is_relaying:
        worker.relay = coinslot.new_relay()
        worker.relay_thread = threading.Thread(target=worker.relay.run, name="coinslot-relay", daemon=True)
        worker.relay_thread.start()


def worker_exit(server, worker):
    """What is in hand is finished, what was observed in the last second is written, the writer's queue is empty."""
    coinslot = worker.wsgi.extensions.get("coinslot") if getattr(worker, "wsgi", None) else None
    if coinslot is not None:
        if getattr(worker, "relay", None) is not None:
            worker.relay.stop()
            worker.relay_thread.join(graceful_timeout)
        coinslot.observations.flush()
        coinslot.database.close()
