using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// A queue of which two jobs may run at a time, and of each group one:
//   worker A, whose lease has ended though nobody has noticed, holds job `held` of group g, which is full (in strict order) or in line; jobs `first` and `second` wait behind it;
//   workers B and C are well; job `alone` waits in group k, which is in line.
internal sealed class GroupSituation(NpgsqlConnection connection, string order) : Situation(connection)
{
    public static readonly Guid C = new("cccccccc-0000-4000-8000-000000000000");
    public static readonly Guid First = new("00000000-0000-7000-8000-000000000002");
    public static readonly Guid Behind = new("00000000-0000-7000-8000-000000000003");
    public static readonly Guid Alone = new("00000000-0000-7000-8000-000000000005");

    private readonly List<(string What, Guid Job)> happened = [];

    public string Order => order;

    public bool IsRescued { get; set; }

    public bool HasCancelled { get; set; }

    // An end that no group was told of.
    public bool IsUntold { get; set; }

    public bool IsLookedFor { get; set; }

    public IReadOnlyList<(string Group, string Version)> Missed { get; set; } = [];

    public void Say(string what, Guid job = default) => happened.Add((what, job));

    public void SayOnce(string what, Guid job)
    {
        if (!happened.Contains((what, job)))
            Say(what, job);
    }

    public override async Task ResetAsync(bool withOldHistory)
    {
        happened.Clear();
        IsUntold = false;
        await TextsAsync($$"""
            DELETE FROM outbox.jobs; DELETE FROM outbox.job_history; DELETE FROM outbox.workers; DELETE FROM outbox.job_groups; DELETE FROM outbox.queues; DELETE FROM outbox.queue_holders;
            INSERT INTO outbox.queues (name, limited, concurrency, group_concurrency, group_order)
            VALUES ('lane', true, 2, {{(order == "any" ? "1" : "NULL")}}, '{{order}}');
            INSERT INTO outbox.queue_holders (queue, part, jobs, ids)
            VALUES ('lane', 1, 1, '{ {{Held}} }');
            INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds, heartbeat_at)
            VALUES ('{{A}}', 'a', 'h', 1, '1', interval '6 s', '{}', '{a}', now() - interval '1 hour'),
                   ('{{B}}', 'b', 'h', 1, '1', interval '1 day', '{}', '{a}', now()),
                   ('{{C}}', 'c', 'h', 1, '1', interval '1 day', '{}', '{a}', now());
            INSERT INTO outbox.jobs (id, kind, args, queue, job_group, run_at, attempt, lease_token, worker_id, claimed_at)
            VALUES ('{{Held}}', 'a', '{}', 'lane', 'g', now() - interval '4 s', 1, '{{HeldToken}}', '{{A}}', now()),
                   ('{{First}}', 'a', '{}', 'lane', 'g', now() - interval '3 s', 0, NULL, NULL, NULL),
                   ('{{Behind}}', 'a', '{}', 'lane', 'g', now() - interval '2 s', 0, NULL, NULL, NULL),
                   ('{{Alone}}', 'a', '{}', 'lane', 'k', now() - interval '1 s', 0, NULL, NULL, NULL);
            INSERT INTO outbox.job_groups (queue, job_group, state, look_at, head, holders)
            VALUES ('lane', 'g', {{(order == "strict" ? "'full', 'infinity'" : "'ready', NULL")}}, {{(order == "strict" ? $"'{Held}'" : "NULL")}}, '{ {{Held}} }'),
                   ('lane', 'k', 'ready', NULL, NULL, '{}');
            """);
    }

    public override async Task CheckAsync(Session closing)
    {
        await EmptyAsync("more of a group run than may", "SELECT job_group FROM outbox.jobs WHERE lease_token IS NOT NULL GROUP BY job_group HAVING count(*) > 1");
        await EmptyAsync("more of the queue run than may", "SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL HAVING count(*) > 2");

        var asked = happened.Where(each => each.What == "asked").Select(each => each.Job).ToList();
        await EmptyAsync("a request to stop was lost", $"SELECT id FROM outbox.jobs WHERE cancel_requested_at IS NULL AND id = ANY ('{{{string.Join(',', asked)}}}')");
        if (IsUntold)
        {
            await TextsAsync("UPDATE outbox.queues SET groups_looked_at = '-infinity'");
            await RunAsync(closing, GroupActors.LookForMissed);
        }

        // Whoever was told of something has looked; nobody is helped by time where it was full or without anything to do.
        await RunAsync(closing, GroupActors.ResumeGroup);
        await RunAsync(closing, GroupActors.Rescue);
        await RunAsync(closing, GroupActors.FinishCancelled);
        await closing.SqlAsync("""
            UPDATE outbox.jobs SET run_at = now() WHERE lease_token IS NULL AND run_at > now();
            UPDATE outbox.job_groups SET look_at = now(), paused_until = CASE WHEN paused_until IS NOT NULL THEN now() END WHERE state = 'later';
            """);
        for (var round = 0; round < 8 && await TextsAsync("SELECT id FROM outbox.jobs") is not []; round++)
        {
            foreach (var row in await closing.SqlAsync("SELECT id, lease_token FROM outbox.jobs WHERE lease_token IS NOT NULL"))
                await RunAsync(closing, GroupActors.Finish("any", (Guid)row[0], (Guid)row[1]));
            await RunAsync(closing, GroupActors.ClaimB);
            if (await TextsAsync("SELECT job_group FROM outbox.job_groups WHERE state = 'failed'") is not [])
                await RunAsync(closing, GroupActors.ResumeGroup);
            await EmptyAsync("more of a group run than may", "SELECT job_group FROM outbox.jobs WHERE lease_token IS NOT NULL GROUP BY job_group HAVING count(*) > 1");
        }

        await EmptyAsync(
            "a group is stranded",
            "SELECT concat_ws(' ', job.id, known) FROM outbox.jobs AS job LEFT JOIN outbox.job_groups AS known ON known.queue = job.queue AND known.job_group = job.job_group");
        CheckEnds();
        if (order == "strict")
            CheckOrder();
    }

    // Nobody starts what was asked to stop, or cancels what runs.
    private void CheckEnds()
    {
        HashSet<Guid> asked = [];
        HashSet<Guid> running = [Held];
        foreach (var (what, job) in happened)
        {
            Assert.False(what == "claimed" && asked.Contains(job), $"{job} started after it was asked to stop: {string.Join(", ", happened)}");
            Assert.False(what == "cancelled" && running.Contains(job), $"{job} was cancelled while it ran: {string.Join(", ", happened)}");
            if (what == "asked")
                asked.Add(job);
            else if (what == "claimed")
                running.Add(job);
            else
                running.Remove(job);
        }
    }

    // Before each start of another job of the group the one before it has ended for good, or was dead and passed over.
    private void CheckOrder()
    {
        var (ended, died) = (false, false);
        var running = Held;
        foreach (var (what, job) in happened)
        {
            died |= what == "died" && job == running;
            ended |= (what is "ended" or "cancelled" && job == running) || (what == "resumed" && died);
            if (what != "claimed" || job == Alone)
                continue;
            Assert.True(ended || job == running, $"{job} started before {running} had ended: {string.Join(", ", happened)}");
            (running, ended, died) = (job, false, false);
        }
    }

    private static async Task RunAsync(Session session, Actor actor)
    {
        foreach (var step in actor.Steps)
            await step(session);
    }
}
