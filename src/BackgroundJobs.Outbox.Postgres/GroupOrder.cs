namespace BackgroundJobs.Outbox.Postgres;

/// <summary>In which order the jobs of one group run.</summary>
public enum GroupOrder
{
    /// <summary>As jobs of a queue do: by priority, then by the moment from which they may run; as many at a time as limits allow.</summary>
    Any,

    /// <summary>One at a time, in that order. A job that waits for its next attempt lets the others pass.</summary>
    Fifo,

    /// <summary>
    /// One at a time, in that order, whatever happens: while a job waits for its next attempt, or is dead, no other of its group starts.
    /// <c>JobAdmin.ResumeGroupAsync</c> passes a dead one over.
    /// </summary>
    Strict,
}
