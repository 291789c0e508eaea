namespace BackgroundJobs.Outbox.Postgres;

// What a heartbeat learned. PassesOver: kinds are paused, whose jobs claims pass over. LookForGroups: nobody has for a while (look_for_groups.sql). Now is the database's clock, read last: whoever carries it on begins when the answer arrives.
internal sealed record Beat(
    bool SomeoneDied, IReadOnlyList<Guid> Cancelled, bool CancelledWaits, bool Unsettled, IReadOnlyList<string> Suspects, DateTime? NextDue, DateTime ServerStartedAt, DateTime? NextTick, IReadOnlyList<string> Limited, IReadOnlyList<string> Rated, bool PassesOver, bool LookForGroups, DateTime Now);
