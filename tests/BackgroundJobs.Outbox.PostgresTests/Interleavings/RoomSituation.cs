using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// A queue of which three jobs may run at a time, and no job of it has had a group: worker A holds two jobs, `held` and another one, by one claim, three wait. All of them are well.
internal sealed class RoomSituation(NpgsqlConnection connection) : Situation(connection)
{
    public static readonly Actor ClaimB = Claim("claim B", B);

    public static readonly Actor ClaimC = Claim("claim C", GroupSituation.C);

    // Of a worker that was told of a group, or is of a version that knows no other claim.
    public static readonly Actor InTurnC = new(
        "claim C in turn",
        async session =>
        {
            await session.BeginAsync();
            await session.RunAsync("file_groups", ("queue", "lane"), ("after_run_at", new DateTime[4]), ("after_id", new Guid[4]), ("limit", 1000));
        },
        session => session.RunAsync("claim_in_turn", Values(GroupSituation.C)),
        session => session.CommitAsync());

    public static readonly Actor EnqueueOfGroup = new(
        "enqueue of a group",
        async session =>
        {
            await session.BeginAsync();
            await session.SqlAsync($$"""INSERT INTO outbox.jobs (id, kind, args, queue, job_group) VALUES ('{{New}}', 'a', '{}', 'lane', 'g')""");
        },
        session => session.CommitAsync());

    public static readonly Actor ReturnA = new(
        "return of A's",
        async session =>
        {
            await session.BeginAsync();
            await session.SqlAsync("UPDATE outbox.jobs SET lease_token = NULL, worker_id = NULL, claimed_at = NULL WHERE id = '" + Held + "' AND lease_token = '" + HeldToken + "'");
        },
        session => session.CommitAsync());

    // What was noted of its claim hears of it.
    public static readonly Actor FinishA = new(
        "finish A",
        async session =>
        {
            await session.BeginAsync();
            await session.UseKeyAsync();
            await session.RunAsync(
                "finish_jobs",
                ("ids", new[] { Held }),
                ("lease_tokens", new[] { HeldToken }),
                ("states", new[] { "completed" }),
                ("history", new short[] { 2 }),
                ("errors", new string?[] { null }),
                ("cursors", new string?[] { null }),
                ("results", new string?[] { null }),
                ("limited", true));
        },
        session => session.CommitAsync());

    public static readonly Actor Forget = new(
        "forget groups",
        async session =>
        {
            await session.BeginAsync();
            await session.RunAsync("forget_groups");
        },
        session => session.CommitAsync());

    public static readonly IReadOnlyList<Actor> All = [ClaimB, ClaimC, InTurnC, EnqueueOfGroup, ReturnA, FinishA, Forget];

    public override Task ResetAsync(bool withOldHistory) => TextsAsync($$"""
        DELETE FROM outbox.jobs; DELETE FROM outbox.job_history; DELETE FROM outbox.workers; DELETE FROM outbox.job_groups; DELETE FROM outbox.queues; DELETE FROM outbox.queue_holders;
        INSERT INTO outbox.queues (name, limited, concurrency)
        VALUES ('lane', true, 3);
        INSERT INTO outbox.queue_holders (queue, part, jobs, ids, lease_token)
        VALUES ('lane', 1, 2, '{ {{Held}}, {{Past}} }', '{{HeldToken}}');
        INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds, heartbeat_at)
        SELECT id::uuid, id, 'h', 1, '1', interval '1 day', '{}', '{a}', now()
        FROM unnest('{ {{A}}, {{B}}, {{GroupSituation.C}} }'::text[]) AS id;
        INSERT INTO outbox.jobs (id, kind, args, queue, run_at, attempt, lease_token, worker_id, claimed_at)
        VALUES ('{{Held}}', 'a', '{}', 'lane', now() - interval '4 s', 1, '{{HeldToken}}', '{{A}}', now()),
               ('{{Past}}', 'a', '{}', 'lane', now() - interval '4 s', 1, '{{HeldToken}}', '{{A}}', now()),
               ('{{GroupSituation.First}}', 'a', '{}', 'lane', now() - interval '3 s', 0, NULL, NULL, NULL),
               ('{{GroupSituation.Behind}}', 'a', '{}', 'lane', now() - interval '2 s', 0, NULL, NULL, NULL),
               ('{{GroupSituation.Alone}}', 'a', '{}', 'lane', now() - interval '1 s', 0, NULL, NULL, NULL);
        """);

    public override async Task CheckAsync(Session closing)
    {
        for (var round = 0; round < 6; round++)
        {
            await EmptyAsync("more run than may", "SELECT count(*) FROM outbox.jobs WHERE lease_token IS NOT NULL HAVING count(*) > 3");
            await EmptyAsync("one runs that was not noted", "SELECT id FROM outbox.jobs WHERE lease_token IS NOT NULL AND id NOT IN (SELECT unnest(ids) FROM outbox.queue_holders)");
            await EmptyAsync(
                "more are counted as ended than have",
                "SELECT part FROM outbox.queue_holders WHERE jobs - ended < (SELECT count(*) FROM outbox.jobs WHERE id = ANY (ids) AND lease_token IS NOT NULL)");
            if (await TextsAsync("SELECT id FROM outbox.jobs") is [])
                break;
            await TextsAsync("DELETE FROM outbox.jobs WHERE lease_token IS NOT NULL");
            var inTurn = (await TextsAsync("SELECT outbox.takes_turns('lane')::text")) is ["true"];
            foreach (var step in (inTurn ? InTurnC : ClaimC).Steps)
                await step(closing);
        }

        await EmptyAsync("a job is stranded", "SELECT id FROM outbox.jobs");
    }

    private static Actor Claim(string name, Guid worker) => new(
        name,
        async session =>
        {
            await session.BeginAsync();
            await session.RunAsync("claim_jobs", [.. Values(worker), ("after_run_at", new DateTime[4]), ("after_id", new Guid[4])]);
        },
        session => session.RunAsync("next_look", ("queue", "lane"), ("looked_at", 1000L)),
        session => session.CommitAsync());

    private static (string, object)[] Values(Guid worker) =>
        [("queue", "lane"), ("limit", 10), ("suspects", false), ("kinds", new[] { "a" }), ("worker", worker), ("epoch", 0), ("lease_token", Guid.NewGuid())];
}
