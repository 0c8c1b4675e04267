"""The engine of several servers: a PostgreSQL database. Nothing here is imported unless COINSLOT_DATABASE names one."""
