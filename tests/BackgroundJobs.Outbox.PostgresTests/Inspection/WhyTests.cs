using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Inspection;

// Why is it not running? One sentence for each reason there is.
public sealed class WhyTests
{
    private const string Worker = "INSERT INTO outbox.workers (id, name, host, process_id, version, lease, queues, kinds) VALUES ('aaaaaaaa-0000-4000-8000-000000000000', 'w1', 'h', 1, '1', interval '1 hour', ";
    private const string Fit = """'{"default": 10}', '{number}'""";
    private const string Due = "UPDATE outbox.jobs SET run_at = now() - interval '1 min';";
    private const string Held = "UPDATE outbox.jobs SET attempt = 2, lease_token = gen_random_uuid(), worker_id = 'aaaaaaaa-0000-4000-8000-000000000000', claimed_at = '2026-01-01 12:00:00.5+00'";

    [Theory]
    [InlineData("", "No worker is alive that would take it.")]
    [InlineData("UPDATE outbox.jobs SET run_at = '2126-01-01 12:03:00.7+01'", "It is scheduled for 2126-01-01 11:03:00+00.")]
    [InlineData("""UPDATE outbox.jobs SET run_at = '2126-01-01 12:03+00', failures = 3, errors = '[{"type": "A"}, {"type": "System.TimeoutException"}]'""", "It has failed 3 times of 20 (System.TimeoutException), and is tried again at 2126-01-01 12:03:00+00.")]
    [InlineData("INSERT INTO outbox.queues VALUES ('default', '2026-01-01 12:00+00', 'ann', 'a fire')", "Its queue default is paused since 2026-01-01 12:00:00+00 by ann: a fire.")]
    [InlineData("INSERT INTO outbox.paused_kinds VALUES ('number', '', '2026-01-01 12:00+00', 'ann', 'a fire')", "Its kind number is paused since 2026-01-01 12:00:00+00 by ann: a fire.")]
    [InlineData("INSERT INTO outbox.paused_kinds VALUES ('number', 'default', '2026-01-01 12:00+00', 'ann'), ('number', 'mail', now(), 'bob'), ('other', '', now(), 'bob')", "Its kind number is paused in queue default since 2026-01-01 12:00:00+00 by ann.")]
    [InlineData("INSERT INTO outbox.paused_kinds VALUES ('number', 'mail'), ('other', ''), ('other', 'default')", "No worker is alive that would take it.")]
    [InlineData("@'{\"default\": 10}', '{other}'", "No live worker knows its kind number.")]
    [InlineData("@'{\"mail\": 10}', '{number}'", "No live worker takes jobs of its queue default.")]
    [InlineData("@" + Fit, "It is the next one of queue default, due since ")]
    [InlineData("@" + Fit + "|UPDATE outbox.jobs SET crashes = 2", "2 workers have died under it: it waits for a process in which no other such job runs.")]
    [InlineData("@" + Fit + "|" + Held, "It is claimed by w1 since 2026-01-01 12:00:00+00, attempt 2.")]
    [InlineData("@" + Fit + "|" + Held + ", cancel_requested_at = '2026-01-01 12:01+00'", "It is claimed by w1 since 2026-01-01 12:00:00+00, attempt 2, and was asked to stop at 2026-01-01 12:01:00+00.")]
    [InlineData("@" + Fit + "|" + Held + "; UPDATE outbox.workers SET heartbeat_at = '2026-01-01 12:05+00'", "Its worker w1 was last heard at 2026-01-01 12:05:00+00: the job is given back as soon as another worker notices.")]
    [InlineData("@" + Fit + "|" + Held + "; UPDATE outbox.workers SET stopping = true", "It is claimed by w1 since 2026-01-01 12:00:00+00, attempt 2.")]
    [InlineData("@" + Fit + "|UPDATE outbox.workers SET stopping = true", "No worker is alive that would take it.")]
    [InlineData("UPDATE outbox.jobs SET cancel_requested_at = '2026-01-01 12:00+00'", "It was cancelled at 2026-01-01 12:00:00+00, and ends as soon as a worker notices.")]
    [InlineData("INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, errors) SELECT id, '2026-01-01 12:00+00', now(), now(), 4, 2, 20, 3, 1, 'dead', queue, kind, '[{\"type\": \"A\"}]' FROM outbox.jobs; DELETE FROM outbox.jobs", "It will not run: dead at 2026-01-01 12:00:00+00, after 4 attempts, 3 failures and 1 crashes (A). JobAdmin can retry it.")]
    [InlineData("INSERT INTO outbox.job_history (id, finished_at, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind) SELECT id, '2026-01-01 12:00+00', now(), now(), 1, 2, 20, 0, 0, 'completed', queue, kind FROM outbox.jobs; DELETE FROM outbox.jobs", "It has run: completed at 2026-01-01 12:00:00+00, as attempt 1.")]
    [InlineData("@" + Fit + "|" + Due + "SELECT outbox.enqueue('number', priority => 1), outbox.enqueue('number', priority => 1, run_at => '2126-01-01'), outbox.enqueue('number', priority => 3), outbox.enqueue('number', run_at => now() - interval '1 day')", "It is behind 2 jobs of queue default, due since ")]
    [InlineData("@" + Fit + "|" + Due + "SELECT outbox.enqueue('number', run_at => now() - interval '1 day') FROM generate_series(1, 1200)", "It is behind 1000 or more jobs of queue default, due since ")]
    public async Task Each_reason_has_its_sentence(string given, string expected)
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var id = await database.ScalarAsync<Guid>("SELECT outbox.enqueue('number')");
        var parts = given.Split('|');
        if (parts[0].StartsWith('@'))
            await database.ExecuteAsync(Worker + parts[0][1..] + ")");
        if (parts[^1] is { Length: > 0 } sql && !sql.StartsWith('@'))
            await database.ExecuteAsync(sql);
        var explained = await new JobInspector(database.Inspector).ExplainAsync(id, TestContext.Current.CancellationToken);
        Assert.Equal(id, explained?.JobId);
        Assert.StartsWith(expected, explained?.Why, StringComparison.Ordinal);

        // In psql it is the same.
        var printed = await database.PsqlAsync("-q", "-A", "-t", "-c", $"SET outbox_query.job_id = '{id}'", "-f", Repository.PathOf("queries", "why.sql"));
        Assert.Contains(expected, printed, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_job_of_a_workflow_says_whom_it_waits_for_and_who_has_cancelled_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var inspector = new JobInspector(database.Inspector);
        JobWorkflow flow = new();
        var parents = Enumerable.Range(1, 5).Select(n => flow.Add(new NumberJob(n))).ToList();
        var child = flow.Add(new NumberJob(6), after: [.. parents]);
        await new JobQueue(database.DataSource).EnqueueAsync(flow.Jobs, TestContext.Current.CancellationToken);
        var first = string.Join(", ", parents.Take(3).Select(each => $"{each.Id} (number, waiting)"));
        Assert.Equal($"It waits for 5 jobs: {first} and others.", await WhyAsync());

        await database.ExecuteAsync($"DELETE FROM outbox.jobs WHERE id <> '{child.Id}'");
        Assert.Equal("The jobs that it waited for have ended, and it is due as soon as a worker notices.", await WhyAsync());

        // Gone without a trace.
        await database.ExecuteAsync("SELECT outbox.settle_jobs(NULL)");
        Assert.Matches($@"^It will not run: cancelled at [^.]+\. Its parent {parents[0].Id} is deleted, and it was to run on success\. When that job is retried, this one comes back\.$", await WhyAsync());

        async Task<string?> WhyAsync() => (await inspector.ExplainAsync(child.Id, TestContext.Current.CancellationToken))?.Why;
    }

    [Fact]
    public async Task Of_an_unknown_job_nothing_is_said()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Assert.Null(await new JobInspector(database.Inspector).ExplainAsync(Guid.NewGuid(), TestContext.Current.CancellationToken));
    }
}
