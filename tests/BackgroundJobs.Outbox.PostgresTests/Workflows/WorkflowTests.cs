using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

// Jobs that wait for jobs: who runs when its parents have ended, who does not, and who comes back.
public sealed class WorkflowTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_child_runs_when_its_last_parent_has_completed_and_reads_what_they_left()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var flow = new JobWorkflow();
        var one = flow.Add(new NumberJob(1));
        var parts = Enumerable.Range(10, 20).Select(n => flow.Add(new NumberJob(n), after: one)).ToList();
        var sum = flow.Add(new NumberJob(100), after: [.. parts]);
        var last = flow.Add(new NumberJob(200), after: [sum, one]);
        ConcurrentQueue<int> ran = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, context, token) =>
        {
            Assert.Equal(flow.Id, context.WorkflowId);
            ran.Enqueue(job.Number);
            var parents = await context.ParentsAsync(token);
            Assert.All(parents, parent => Assert.Equal(("number", JobState.Completed, true), (parent.Kind, parent.State, parent.HasResult)));
            context.Result(job.Number + parents.Sum(parent => parent.Result<int>()));
        }));
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await EndedAsync(database, 23);

        Assert.Equal(1, ran.First());
        Assert.Equal([100, 200], ran.Skip(21));
        Assert.Equal($"{200 + 1 + 100 + Enumerable.Range(10, 20).Sum(n => n + 1)}", await database.ScalarAsync<string>($"SELECT result::text FROM outbox.job_history WHERE id = '{last.Id}'"));

        // The last end is settled after its commit.
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<long>("SELECT (SELECT count(*) FROM outbox.job_waits) + (SELECT count(*) FROM outbox.unsettled_jobs)") == 0, "nothing is left over");
        Assert.Equal(2, await database.ScalarAsync<short>($"SELECT priority FROM outbox.job_history WHERE id = '{last.Id}'"));
    }

    [Fact]
    public async Task A_parent_that_gives_up_cancels_or_releases_its_children_as_their_edges_say_and_its_retry_brings_them_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var flow = new JobWorkflow();
        var bad = flow.Add(new NumberJob(1));
        var onSuccess = flow.Add(new NumberJob(2), after: bad);
        var behind = flow.Add(new NumberJob(3), after: onSuccess);
        var onFailure = flow.Add(new NumberJob(4), after: bad.OnFailure);
        flow.Add(new NumberJob(5), after: behind.Always);
        var noFailure = flow.Add(new NumberJob(6), after: onFailure.OnFailure);
        var mended = false;
        ConcurrentQueue<int> ran = [];
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((job, context, _) =>
        {
            ran.Enqueue(job.Number);
            if (job.Number == 1 && !mended)
                context.Dead("It cannot be done.");
            return Task.CompletedTask;
        }));
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await EndedAsync(database, 6);
        Assert.Equal(["dead", "cancelled", "cancelled", "completed", "completed", "cancelled"], await StatesAsync(database));
        Assert.Equal([1, 4, 5], ran.Order());
        Assert.Contains(
            $"Its parent {bad.Id} is dead, and it was to run on success. When that job is retried, this one comes back.",
            await database.ScalarAsync<string>($"SELECT errors::text FROM outbox.job_history WHERE id = '{onSuccess.Id}'"), StringComparison.Ordinal);
        Assert.Contains($"{onFailure.Id} is completed, and it was to run on failure", await database.ScalarAsync<string>($"SELECT errors::text FROM outbox.job_history WHERE id = '{noFailure.Id}'"), StringComparison.Ordinal);

        // What has run has run: job 5 ran because its parent was cancelled, and does not again.
        mended = true;
        var admin = new JobAdmin(database.Operator);
        Assert.Equal(1, await admin.RetryAsync(new JobFilter { Ids = [bad.Id] }, Cancellation));
        await Eventually.TrueAsync(async () => (await StatesAsync(database)).Count(each => each == "completed") == 5, "the chain has run");
        Assert.Equal(["completed", "completed", "completed", "completed", "completed", "cancelled"], await StatesAsync(database));
        Assert.Equal([1, 1, 2, 3, 4, 5], ran.Order());
    }

    [Fault("J03", "a parent is cancelled or deleted, by an operator or by hand", "its children are cancelled or run, as their edges say")]
    [Fact]
    public async Task Whatever_ends_a_parent_its_children_hear_of_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        Dictionary<string, (JobWorkflow Flow, WorkflowJob Child)> flows = [];
        var queue = new JobQueue(database.DataSource);
        foreach (var how in new[] { "cancelled by an operator", "deleted by an operator", "deleted by hand", "asked to stop while it ran" })
        {
            var flow = new JobWorkflow();
            var parent = flow.Add(new NumberJob(1), new() { RunAt = TimeProvider.System.GetUtcNow().AddHours(1) });
            flows[how] = (flow, flow.Add(new NumberJob(2), after: parent));
            flow.Add(new NumberJob(3), after: parent.OnFailure);
            await queue.EnqueueAsync(flow.Jobs, Cancellation);
        }

        var admin = new JobAdmin(database.Operator);
        JobFilter Parent(string how) => new() { WorkflowId = flows[how].Flow.Id, States = [JobState.Scheduled] };
        Assert.Equal(1, (await admin.CancelAsync(Parent("cancelled by an operator"), "not today", Cancellation)).Ended);
        Assert.Equal(1, await admin.DeleteAsync(Parent("deleted by an operator"), Cancellation));
        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(DISTINCT what ->> 'workflowId') FROM outbox.operations"));
        await database.ExecuteAsync($"DELETE FROM outbox.jobs WHERE priority > 0 AND workflow_id = '{flows["deleted by hand"].Flow.Id}'");
        await database.ExecuteAsync($"UPDATE outbox.jobs SET cancel_requested_at = now() WHERE priority > 0 AND workflow_id = '{flows["asked to stop while it ran"].Flow.Id}'");

        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended");
        foreach (var (how, (flow, child)) in flows)
        {
            Assert.Equal((how, "cancelled"), (how, await database.ScalarAsync<string>($"SELECT state FROM outbox.job_history WHERE id = '{child.Id}'")));
            Assert.Equal((how, 1L), (how, await database.ScalarAsync<long>($"SELECT count(*) FROM outbox.job_history WHERE state = 'completed' AND workflow_id = '{flow.Id}'")));
        }
    }

    [Fault("J04", "a handler adds jobs to its own workflow, and its transaction is rolled back", "neither its end nor the jobs; both with the next attempt")]
    [Fact]
    public async Task A_job_adds_jobs_to_its_own_workflow_together_with_its_end()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<string> ran = [];
        await using var worker = await WorkerHost.StartAsync(
            database,
            o => o.Handle<NumberJob>(
                async (job, context, token) =>
                {
                    ran.Enqueue($"{job.Number}.{context.Attempt}");
                    if (job.Number > 1)
                        return;
                    await using var db = new FlowContext(database.ConnectionString);
                    context.Result("found");
                    context.CompleteWith(db);
                    var flow = db.ContinueWorkflow(context);
                    var next = flow.Enqueue(new NumberJob(2), after: flow.Existing(context.JobId));
                    flow.Enqueue(new NumberJob(3), after: next);

                    // Rolled back with everything else, once.
                    await using var transaction = await db.Database.BeginTransactionAsync(token);
                    await db.SaveChangesAsync(token);
                    if (context.Failures == 0)
                        throw new InvalidOperationException("After the save, before the commit.");
                    await transaction.CommitAsync(token);
                },
                kind =>
                {
                    kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(10));
                    kind.History = HistoryPolicy.None;
                }));
        var flow = new JobWorkflow();
        flow.Add(new NumberJob(1));
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await EndedAsync(database, 3);
        Assert.Equal(["1.1", "1.2", "2.1", "3.1"], ran);
        Assert.Equal(["completed", "completed", "completed"], await StatesAsync(database));
        Assert.Equal("\"found\"", await database.ScalarAsync<string>("SELECT result::text FROM outbox.job_history WHERE result IS NOT NULL"));
        Assert.Equal(0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE args IS NOT NULL"));
    }

    // Found by the chaos: of a grandparent's retry it heard nothing, and ran beside its parent.
    [Fact]
    public async Task A_job_that_is_still_blocked_waits_again_for_what_a_retry_brings_back()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        ConcurrentQueue<int> ran = [];
        var mended = false;
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((job, context, _) =>
        {
            ran.Enqueue(job.Number);
            if (job.Number == 1 && !mended)
                context.Dead("Not yet.");
            return Task.CompletedTask;
        }));
        JobWorkflow flow = new();
        var first = flow.Add(new NumberJob(1));
        var left = flow.Add(new NumberJob(2), after: first);
        var right = flow.Add(new NumberJob(3), new() { Delay = TimeSpan.FromDays(1) });
        var join = flow.Add(new NumberJob(4), after: [left.Always, right]);
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        await Eventually.TrueAsync(async () => await WaitsAsync() == $"{right.Id}", "the end of the left one is settled");

        // The left one comes back, and is not let go yet: a pause keeps its parent from running.
        mended = true;
        JobAdmin admin = new(database.Operator);
        await admin.PauseQueueAsync("default", cancellationToken: Cancellation);
        Assert.True(await admin.RetryAsync(first.Id, Cancellation));
        Assert.Equal($"{left.Id} {right.Id}", await WaitsAsync());
        await database.ExecuteAsync($"UPDATE outbox.jobs SET run_at = now() WHERE id = '{right.Id}'");
        await admin.ResumeQueueAsync("default", Cancellation);
        await worker.Queue.WaitForWorkflowAsync(flow.Id, TimeSpan.FromSeconds(20), Cancellation);
        Assert.Equal(4, ran.Last());
        Assert.Equal([1, 1, 2, 3, 4], ran.Order());

        Task<string> WaitsAsync() => database.ScalarAsync<string>($"SELECT string_agg(parent_id::text, ' ' ORDER BY parent_id) FROM outbox.job_waits WHERE job_id = '{join.Id}'");
    }

    // More ends at once than one settlement takes.
    [Fact]
    public async Task However_many_end_at_once_all_that_waited_goes_on_without_the_next_heartbeat()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobQueue queue = new(database.DataSource);
        JobWorkflow flow = new();
        for (var n = 0; n < 1200; n++)
            flow.Add(new NumberJob(n), after: flow.Add(new NumberJob(n), new() { Queue = "elsewhere" }));
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        await database.ExecuteAsync("DELETE FROM outbox.jobs WHERE queue = 'elsewhere'");
        await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
        var ends = 0;
        for (var more = true; more; ends++)
            (_, more) = await queue.SettleAsync(connection, null, Cancellation);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) + (SELECT count(*) FROM outbox.unsettled_jobs) FROM outbox.jobs"));

        // 1,200 parents, and then their children, which were cancelled with them; the last one finds nothing.
        Assert.InRange(ends, 5, 7);
    }

    [Fact]
    public async Task A_result_is_encrypted_where_arguments_are_and_one_that_is_too_large_fails_the_job()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        JobEncryption key = new("k", new byte[32]);
        await using var worker = await WorkerHost.StartAsync(database, o =>
        {
            o.Encryption = key;
            o.Handle<NumberJob>(async (job, context, token) =>
            {
                if (job.Number == 3)
                    context.Result(new string('x', 70_000));
                context.Result("the secret " + string.Concat((await context.ParentsAsync(token)).Select(parent => parent.Result<string>())));
            });
        });
        JobWorkflow flow = new(worker.Options);
        var child = flow.Add(new NumberJob(2), after: flow.Add(new NumberJob(1)));
        var large = flow.Add(new NumberJob(3), new() { MaxAttempts = 1 });
        await worker.Queue.EnqueueAsync(flow.Jobs, Cancellation);
        Assert.Equal("the secret the secret ", (await worker.Queue.WaitAsync(child.Id, TimeSpan.FromSeconds(20), Cancellation)).Result<string>());
        Assert.Equal(JobState.Dead, (await worker.Queue.WaitAsync(large.Id, TimeSpan.FromSeconds(20), Cancellation)).State);
        Assert.Contains("its result is 70002 bytes of JSON, more than the 65536 allowed", await database.ScalarAsync<string>($"SELECT errors::text FROM outbox.job_history WHERE id = '{large.Id}'"), StringComparison.Ordinal);
        Assert.Equal(2L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE result IS NOT NULL AND result::text NOT LIKE '%secret%'"));
    }

    [Fact]
    public async Task A_workflow_is_saved_with_its_entity_keys_of_the_database_included_or_not_at_all()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await database.ExecuteAsync("CREATE TABLE servers (id bigint GENERATED BY DEFAULT AS IDENTITY, name text NOT NULL CHECK (name <> ''))");
        foreach (var (name, saved) in new[] { ("", false), ("web1", true) })
        {
            await using var db = new FlowContext(database.ConnectionString);
            var server = new Server { Name = name };
            db.Add(server);
            var flow = db.StartWorkflow();
            var boot = flow.Enqueue(() => new NumberJob((int)server.Id));
            flow.Enqueue(() => new NumberJob(-(int)server.Id), after: [boot]);
            flow.Enqueue(new OtherJob("it did not boot"), after: boot.OnFailure);
            if (saved)
                await db.SaveChangesAsync(Cancellation);
            else
                await Assert.ThrowsAsync<DbUpdateException>(() => db.SaveChangesAsync(Cancellation));
            Assert.Equal(saved ? 3 : 0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
        }

        Assert.Equal(["2 2", "-2 -2", "-2 "], await database.TextsAsync("SELECT priority || ' ' || coalesce(args ->> 'number', '') FROM outbox.jobs ORDER BY id"));
        Assert.Equal(2, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_waits"));
    }

    [Fault("J05", "a parent that does not exist, is of another workflow, or waits itself for the child", "refused with its id, and nothing is written")]
    [Fault("D11", "cycles and missing parents", "refused with the ids, and nothing is written")]
    [Fact]
    public async Task Parents_that_are_not_there_foreign_or_in_a_circle_are_refused_by_name_and_nothing_is_written()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var other = new JobWorkflow();
        var foreign = other.Add(new NumberJob(1));
        await queue.EnqueueAsync(other.Jobs, Cancellation);
        var flow = new JobWorkflow();
        var mine = flow.Add(new NumberJob(1));

        // Before anything is sent.
        var error = Assert.Throws<InvalidJobException>(() => flow.Add(new NumberJob(2), after: foreign));
        Assert.Equal($"Job 'number' cannot be enqueued: it is to wait for job {foreign.Id} of workflow {other.Id}, and belongs to workflow {flow.Id}. Add both to one workflow.", error.Message);
        error = Assert.Throws<InvalidJobException>(() => flow.Add(new NumberJob(2), after: [mine, mine.Always]));
        Assert.Contains($"it is to wait for job {mine.Id} twice, in different ways", error.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidJobException>(() => flow.Add(new NumberJob(2), after: default(JobParent)));
        Assert.Single(flow.Jobs);

        // With the insert, by every way in.
        var unknown = Guid.NewGuid();
        foreach (var id in new[] { unknown, foreign.Id })
        {
            var wrong = new JobWorkflow();
            var child = wrong.Add(new NumberJob(2), after: wrong.Existing(id));
            error = await Assert.ThrowsAsync<InvalidJobException>(() => queue.EnqueueAsync(wrong.Jobs, Cancellation));
            Assert.Equal($"Job {child.Id} cannot be enqueued: its workflow {wrong.Id} has no job {id}. Nothing was written. Enqueue parents before their children, in the same workflow.", error.Message);
            await using var db = new FlowContext(database.ConnectionString);
            var saved = db.StartWorkflow();
            saved.Enqueue(new NumberJob(2), after: saved.Existing(id));
            Assert.Contains($"has no job {id}", (await Assert.ThrowsAsync<InvalidJobException>(() => db.SaveChangesAsync(Cancellation))).Message, StringComparison.Ordinal);
        }

        const string Row = "INSERT INTO outbox.jobs (id, kind, args, priority, workflow_id, depends_on) VALUES ";
        const string A = "'aaaaaaaa-0000-7000-8000-000000000000'", B = "'bbbbbbbb-0000-7000-8000-000000000000'", Flow = "'ffffffff-0000-7000-8000-000000000000'";
        foreach (var (sql, says) in new[]
        {
            ($"({A}, 'a', '{{}}', -2, {Flow}, jsonb_build_object({A}, 'success'))", "may wait for it"),
            ($"({A}, 'a', '{{}}', -2, {Flow}, jsonb_build_object({B}, 'success')), ({B}, 'a', '{{}}', -2, {Flow}, jsonb_build_object({A}, 'success'))", "may wait for it"),
            ($"({A}, 'a', '{{}}', -2, NULL, NULL)", "has no workflow or no parents"),
            ($"({A}, 'a', '{{}}', -2, {Flow}, '{{}}')", "has no workflow or no parents"),
            ($"({A}, 'a', '{{}}', -2, {Flow}, '[1]')", "has no workflow or no parents"),
            ($"({A}, 'a', '{{}}', -2, {Flow}, '{{\"x\": \"success\"}}')", "invalid input syntax for type uuid"),
            ($"({A}, 'a', '{{}}', 2, {Flow}, NULL), ({B}, 'a', '{{}}', -2, {Flow}, jsonb_build_object(upper({A}), 'success'))", "as PostgreSQL writes a uuid"),
            ($"({A}, 'a', '{{}}', 2, {Flow}, NULL), ({B}, 'a', '{{}}', -2, {Flow}, jsonb_build_object({A}, 'sometimes'))", "job_waits_run_on_is"),
            ($"({A}, 'a', '{{}}', -5, {Flow}, NULL)", "job_priority_is_1_to_4"),
            ($"({A}, 'a', '{{}}', 0, {Flow}, NULL)", "job_priority_is_1_to_4"),
        })
        {
            Assert.Contains(says, (await Assert.ThrowsAsync<PostgresException>(() => database.ExecuteAsync(Row + sql))).MessageText, StringComparison.Ordinal);
        }

        Assert.Equal(1, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs"));
    }

    // The process died between the end of a job and what follows from it: whoever beats next makes up for it.
    [Fault("J01", "a worker dies between the end of a job and the release of what waits for it", "another one's heartbeat makes up for it")]
    [Fact]
    public async Task What_an_end_asks_for_is_done_by_another_worker_if_the_first_one_did_not_live_to_do_it()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        var queue = new JobQueue(database.DataSource);
        var flow = new JobWorkflow();
        var parent = flow.Add(new NumberJob(1));
        var child = flow.Add(new NumberJob(2), after: parent);
        await queue.EnqueueAsync(flow.Jobs, Cancellation);
        await database.ExecuteAsync($"""
            WITH gone AS (DELETE FROM outbox.jobs WHERE id = '{parent.Id}' RETURNING *)
            INSERT INTO outbox.job_history (id, run_at, created_at, attempt, priority, max_attempts, failures, crashes, state, queue, kind, workflow_id)
            SELECT id, run_at, created_at, 1, priority, max_attempts, 0, 0, 'completed', queue, kind, workflow_id FROM gone
            """);
        Assert.Equal("blocked", await database.ScalarAsync<string>($"SELECT state FROM outbox.all_jobs WHERE id = '{child.Id}'"));
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>((_, _, _) => Task.CompletedTask));
        await EndedAsync(database, 2);
        Assert.Equal(["completed", "completed"], await StatesAsync(database));
    }

    // Each child is inserted while its parent runs and ends, at another moment each time; some are late and find it gone.
    [Fault("J02", "children are inserted while their parent runs, ends, or has ended", "none is left waiting")]
    [Fact]
    public async Task A_child_that_is_inserted_while_its_parent_ends_is_never_left_waiting()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<NumberJob>(async (job, _, token) =>
        {
            if (job.Number > 0)
                await Task.Delay(TimeSpan.FromMilliseconds(job.Number), TimeProvider.System, token);
        }), o => o.Queue("default", 32));
        await Parallel.ForEachAsync(Enumerable.Range(1, 150), new ParallelOptions { MaxDegreeOfParallelism = 6, CancellationToken = Cancellation }, async (n, token) =>
        {
            var flow = new JobWorkflow();
            var parent = flow.Add(new NumberJob(n % 7));
            await worker.Queue.EnqueueAsync(flow.Jobs, token);
            for (var child = 0; child < 3; child++)
            {
                if (child == 2 && n % 5 == 0)
                    await worker.Queue.WaitAsync(parent.Id, TimeSpan.FromSeconds(20), token);
                var more = new JobWorkflow(flow.Id, OutboxOptions.Default);
                more.Add(new NumberJob(0), after: parent);
                await worker.Queue.EnqueueAsync(more.Jobs, token);
            }
        });
        await EndedAsync(database, 600);
        Assert.Equal(600, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history WHERE state = 'completed'"));
    }

    private static Task EndedAsync(ScratchDatabase database, int jobs) =>
        Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_history") == jobs, $"{jobs} jobs have ended");

    private static Task<List<string>> StatesAsync(ScratchDatabase database) => database.TextsAsync("SELECT state FROM outbox.all_jobs ORDER BY id");

    private sealed class Server
    {
        public long Id { get; set; }

        public string Name { get; set; } = "";
    }

    private sealed class FlowContext(string connectionString) : DbContext
    {
        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseNpgsql(connectionString).UseOutbox();

        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Server>(server =>
        {
            server.ToTable("servers");
            server.Property(each => each.Id).HasColumnName("id");
            server.Property(each => each.Name).HasColumnName("name");
        });
    }
}
