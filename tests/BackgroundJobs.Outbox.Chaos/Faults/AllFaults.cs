using BackgroundJobs.Outbox.Chaos.Server;

namespace BackgroundJobs.Outbox.Chaos.Faults;

// The families of faults, in two lanes: at most one of each lane at a time, so that two meet, and a third does not hide what they do.
internal static class AllFaults
{
    public static IReadOnlyList<Fault> OfActors(Arena arena) =>
    [
        new("worker killed", ProcessFaults.KillWorkerAsync),
        new("worker frozen beyond its lease", ProcessFaults.FreezeWorkerAsync),
        new("worker asked to stop", ProcessFaults.TerminateWorkerAsync),
        new("writer killed", ProcessFaults.KillWriterAsync),
        .. Enum.GetValues<CommitFault>().Select(fault => new Fault($"commit: {Words(fault)}", (a, r, t) => NetworkFaults.CommitAsync(a, r, fault, statements: false, t))),
        .. Enum.GetValues<CommitFault>().Select(fault => new Fault($"worker's statement: {Words(fault)}", (a, r, t) => NetworkFaults.CommitAsync(a, r, fault, statements: true, t))),
        new("worker's network swallows everything", NetworkFaults.WorkerHoleAsync),
        new("writer's network swallows everything", NetworkFaults.WriterHoleAsync),
        .. arena.Pooler is null ? Array.Empty<Fault>() :
        [
            new("pooler: RECONNECT", (a, _, t) => NetworkFaults.PoolerAsync(a, "RECONNECT", t)),
            new("pooler: KILL and RESUME", (a, _, t) => NetworkFaults.PoolerAsync(a, "KILL", t)),
        ],
        .. ShiftedClock.Library is null ? Array.Empty<Fault>() : [new Fault("worker's clock shifted", ProcessFaults.ShiftClockAsync)],
    ];

    public static IReadOnlyList<Fault> OfTheDatabase(Arena arena) =>
    [
        .. SessionFaults.Roles.Select(role => new Fault($"sessions ended: {role.Name}", (a, _, t) => SessionFaults.TerminateAsync(a, role, t))),
        new("server stopped (immediate) and started", ServerFaults.CrashAsync),
        .. arena.Server.CanMakeStandby ? [new Fault("a standby promoted", FailoverFault.PromoteAsync)] : Array.Empty<Fault>(),
        new("a backend killed, all restart", ServerFaults.KillBackendAsync),
        new("jobs table locked", SessionFaults.LockTableAsync),
        new("an old snapshot held", SessionFaults.HoldSnapshotAsync),
        new("all connections used up", SessionFaults.UseUpConnectionsAsync),
        .. arena.Disk is null ? Array.Empty<Fault>() : [new Fault("disk full", ServerFaults.FillDiskAsync)],
    ];

    public static IReadOnlyList<MissingFault> Missing(Arena arena)
    {
        List<MissingFault> missing = [];
        if (arena.Pooler is null)
            missing.Add(new("pooler", "PgBouncer is not installed (apt-get install pgbouncer)"));
        if (ShiftedClock.Library is null)
            missing.Add(new("worker's clock shifted", "libfaketime is not installed (apt-get install faketime)"));
        if (!arena.Server.CanMakeStandby)
            missing.Add(new("a standby promoted", "this PostgreSQL comes without pg_basebackup"));
        if (arena.Disk is null)
            missing.Add(new("disk full", "no tmpfs may be mounted here (it needs root on Linux)"));
        return missing;
    }

    private static string Words(CommitFault fault) => fault switch
    {
        CommitFault.Drop => "lost on its way",
        CommitFault.Reset => "passed on, both sides cut",
        CommitFault.LoseAnswer => "its answer lost",
        CommitFault.DelayAnswer => "its answer late",
        CommitFault.Half => "half of it passed on",
        _ => throw new ArgumentOutOfRangeException(nameof(fault)),
    };
}
