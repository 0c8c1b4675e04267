"""What people call a background job, on pages and in sentences. The partners' cards name their own."""

from coinslot.operations import certificate, feeds, follower, nightly, retention, search_job
from coinslot.operations.alerts import heartbeat, targets
from coinslot.settlement.jobs import CLOSE_JOB, OPEN_MONTHS_JOB
from coinslot.settlement.runs import RECONCILE_JOB
from handlers.kit.receive import partners

NAMES = {
    CLOSE_JOB: "Close months",
    OPEN_MONTHS_JOB: "Add up open months",
    RECONCILE_JOB: "Compare months with partners' reports",
    nightly.JOB: "Back up and prove it",
    search_job.NAME: "Fill the search",
    retention.JOB: "Delete what is old",
    feeds.JOB: "Watch whether games read",
    certificate.JOB: "Check the certificate",
    follower.JOB: "Ask how old the copy is",
    targets.JOB: "Send alerts",
    heartbeat.JOB: "Call the heartbeat",
}


def job_name(name: str) -> str:
    """A job as people call it, such as "Close months"; a name that nobody gave is given back."""
    known = {job: words for partner in partners() for job, words in partner.job_names.items()}
    return (known | NAMES).get(name, name)
