"""A few kills of lake_kills.py in every run; `./check lakekills N` runs many."""

from lake import have_readers
from lake_kills import LakeKills

FAST = False
TIMEOUT = 400
KILLS = 10


def kills(t, form):
    if not have_readers(t):
        return
    loop = LakeKills(KILLS, seconds_max=200, form=form)
    loop.say = t.note
    loop.run()
    t.equal("LK %s nothing wrong" % form, loop.wrong()[:3], [])
    t.equal("LK %s ended by itself" % form, loop.odd_ends, 0)
    t.check("LK %s kills in flight" % form, loop.in_flight() >= KILLS, loop.in_flight())


def case_v2(t):
    kills(t, "v2")


def case_v3(t):
    kills(t, "v3")
