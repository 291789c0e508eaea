namespace BackgroundJobs.Outbox;

/// <summary>How a parent must have ended for its child to run; it is cancelled otherwise (in <c>depends_on</c> in lower case).</summary>
public enum RunOn
{
    /// <summary>Completed.</summary>
    Success,

    /// <summary>Dead, cancelled or deleted.</summary>
    Failure,

    /// <summary>However it ended.</summary>
    Always,
}
