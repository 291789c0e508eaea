using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

// Graphs by chance, with jobs that complete, give up or are cancelled by chance, run by two workers, retried, and run again: every job ends as
// a model of a few lines says, and none starts before its parents have ended, and what those have added alongside themselves.
public sealed class WorkflowModelTests(ITestOutputHelper output)
{
    private const int Graphs = 60;
    private const int Size = 14;

    // 0: another one each time.
    [Fault("J06", "840 jobs in graphs by chance, of which some add others alongside themselves, some give up, are retried, and bring back what they had cancelled", "each ends as a model says, none starts before its parents have ended")]
    [Theory]
    [InlineData(1)]
    [InlineData(0)]
    public async Task Every_job_ends_as_the_model_says_and_none_starts_before_its_parents_have_ended(int seed)
    {
        seed = seed == 0 ? Random.Shared.Next() : seed;
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        await using var database = await ScratchDatabase.MigratedAsync();
        List<Node> nodes = [];
        List<NewJob> jobs = [];
        for (var graph = 0; graph < Graphs; graph++)
        {
            JobWorkflow flow = new();
            List<Node> here = [];
            for (var n = 0; n < Size; n++)
            {
                Node node = new(nodes.Count + n, Outcomes());
                for (var edge = random.Next(4); n > 0 && edge > 0; edge--)
                    node.Parents.TryAdd(here[random.Next(n)], (RunOn)random.Next(3));
                JobParent[] after = [.. node.Parents.Select(each => each.Value switch
                {
                    RunOn.Success => each.Key.Job!,
                    RunOn.Failure => each.Key.Job!.OnFailure,
                    _ => each.Key.Job!.Always,
                })];
                node.Job = flow.Add(new NumberJob(node.Number), after: after);
                here.Add(node);
            }

            nodes.AddRange(here);
            jobs.AddRange(flow.Jobs);
        }

        // What some of them add when they first run, and some of those in turn.
        for (var n = 0; n < nodes.Count; n++)
        {
            if (random.Next(6) > 0)
                continue;
            Node added = new(nodes.Count, Outcomes());
            nodes[n].Adds = added;
            nodes.Add(added);
        }

        var clock = 0;
        ConcurrentDictionary<int, (int Start, int End)> times = [];
        var round = 0;
        List<Node> retried = [];
        Action<OutboxOptions> handlers = o => o.Handle<NumberJob>(async (job, context, token) =>
        {
            var start = Interlocked.Increment(ref clock);
            var node = nodes[job.Number];
            if (node.Adds is { Job: null } adds)
            {
                var more = JobWorkflow.Continue(context);
                adds.Job = more.AddAlongside(new NumberJob(adds.Number));
                await new JobQueue(database.DataSource).EnqueueAsync(more.Jobs, token);
            }

            switch (node.Outcomes[node.Round])
            {
                case JobState.Dead:
                    context.Dead("By chance.");
                    break;
                case JobState.Cancelled:
                    context.Cancel("By chance.");
                    break;
            }

            await Task.Yield();
            times[job.Number] = (start, Interlocked.Increment(ref clock));
        });
        await using var worker = await WorkerHost.StartAsync(database, handlers);
        await using var other = await WorkerHost.StartAsync(database, handlers);
        await worker.Queue.EnqueueAsync(jobs, TestContext.Current.CancellationToken);
        Play();
        await CheckAsync();

        // Half of those that are dead; what their ends had cancelled comes back.
        retried = [.. nodes.Where(each => each.State == JobState.Dead && random.Next(2) == 0)];
        round = 1;
        foreach (var node in retried)
            (node.State, node.Round) = (null, round);
        for (var found = true; found;)
        {
            found = false;
            foreach (var node in nodes.Where(each => each.ByParent && each.Awaited().Any(parent => parent.Node.State is null)))
            {
                (node.State, node.ByParent) = (null, false);
                found = true;
            }
        }

        output.WriteLine($"{retried.Count} retried, {nodes.Count(each => each.State is null) - retried.Count} back with them");
        Play();
        Assert.Equal(retried.Count, await new JobAdmin(database.Operator).RetryAsync(new JobFilter { Ids = [.. retried.Select(each => each.Job!.Id)] }, TestContext.Current.CancellationToken));
        await CheckAsync();

        async Task CheckAsync()
        {
            await Eventually.TrueAsync(
                async () => await database.ScalarAsync<long>("SELECT count(*) + (SELECT count(*) FROM outbox.unsettled_jobs) FROM outbox.jobs") == 0, "all jobs have ended", 60);
            var states = (await database.TextsAsync("SELECT concat_ws(' ', id, state, state = 'cancelled' AND errors -> -1 ->> 'type' = 'parent') FROM outbox.job_history")).Order();
            Assert.Equal(nodes.Where((each, n) => n < Graphs * Size || each.Ran >= 0).Select(each => $"{each.Job!.Id} {each.State!.Value.ToString().ToLowerInvariant()} {(each.ByParent ? "t" : "f")}").Order(), states);
            Assert.Equal(0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_waits"));
            Assert.Equal(nodes.Where(each => each.Ran >= 0).Select(each => each.Number), times.Keys.Order());

            // In this round nothing that was to wait came first.
            foreach (var node in nodes.Where(each => !each.ByParent && each.Ran == round && !retried.Contains(each)))
                Assert.All(node.Awaited().Where(each => !each.Node.ByParent && each.Node.Ran == round), parent => Assert.True(times[parent.Node.Number].End < times[node.Number].Start));
        }

        void Play()
        {
            foreach (var node in nodes.Where(each => each.State is null && each.Ran >= 0 && each.Parents.Count == 0))
                Run(node);

            // Parents stand before their children.
            foreach (var node in nodes.Take(Graphs * Size).Where(each => each.State is null))
            {
                // What is retried was let run by its parents before.
                node.ByParent = !retried.Contains(node) && node.Awaited().Any(each => each.On switch
                {
                    RunOn.Success => each.Node.State != JobState.Completed,
                    RunOn.Failure => each.Node.State == JobState.Completed,
                    _ => false,
                });
                if (node.ByParent)
                    node.State = JobState.Cancelled;
                else
                    Run(node);
            }
        }

        void Run(Node node)
        {
            (node.State, node.Ran) = (node.Outcomes[node.Round], round);
            if (node.Adds is { Ran: < 0 } adds)
                Run(adds);
        }

        JobState[] Outcomes() => [.. Enumerable.Range(0, 2).Select(_ => random.Next(10) switch { < 6 => JobState.Completed, < 9 => JobState.Dead, _ => JobState.Cancelled })];
    }

    private sealed record Node(int Number, JobState[] Outcomes)
    {
        public Dictionary<Node, RunOn> Parents { get; } = [];

        // What it adds alongside itself when it first runs.
        public Node? Adds { get; set; }

        public WorkflowJob? Job { get; set; }

        public JobState? State { get; set; }

        public bool ByParent { get; set; }

        // Which of its outcomes comes next, and in which round it last ran.
        public int Round { get; set; }

        public int Ran { get; set; } = -1;

        // Its parents, and what they have added, and those in turn; but not where their failure is wanted.
        public IEnumerable<(Node Node, RunOn On)> Awaited()
        {
            foreach (var (parent, on) in Parents)
            {
                yield return (parent, on);
                for (var added = parent.Adds; on != RunOn.Failure && added is { Ran: >= 0 }; added = added.Adds)
                    yield return (added, on);
            }
        }

        public bool Equals(Node? other) => ReferenceEquals(this, other);

        public override int GetHashCode() => Number;
    }
}
