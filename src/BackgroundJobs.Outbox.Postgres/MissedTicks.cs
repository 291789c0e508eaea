namespace BackgroundJobs.Outbox.Postgres;

/// <summary>What becomes of ticks that passed while no worker ran.</summary>
public enum MissedTicks
{
    /// <summary>One job, for the newest of them. The default: the nightly report comes late, and once.</summary>
    Once,

    /// <summary>No job, unless the newest of them is at most a minute old.</summary>
    Skip,

    /// <summary>A job for each of them, up to <see cref="JobSchedule.MissedLimit"/>; of more than that, the newest. One where they may not overlap.</summary>
    All,
}
