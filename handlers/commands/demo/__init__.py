"""``flask demo``: a made-up studio with 60 days behind it, every row of it made by the calls and jobs that are live.

The clock is moved from call to call, the partners' calls are signed with the demo's own keys, and what others would
answer comes from ``handlers/kit/demo_world.py``: nothing leaves the process.
"""
