using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Workflows;

// Graphs by chance, with jobs that complete, give up or are cancelled by chance, run by two workers, retried, and run again: every job ends as
// a model of a few lines says, and none starts before its parents have ended.
public sealed class WorkflowModelTests(ITestOutputHelper output)
{
    private const int Graphs = 60;
    private const int Size = 14;

    // 0: another one each time.
    [Fault("J06", "840 jobs in graphs by chance, of which some give up, are retried, and bring back what they had cancelled", "each ends as a model says, none starts before its parents have ended")]
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
                Node node = new(nodes.Count + n, [.. Enumerable.Range(0, 2).Select(_ => random.Next(10) switch { < 6 => JobState.Completed, < 9 => JobState.Dead, _ => JobState.Cancelled })]);
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

        var clock = 0;
        ConcurrentDictionary<int, (int Start, int End)> times = [];
        var round = 0;
        List<Node> retried = [];
        Action<OutboxOptions> handlers = o => o.Handle<NumberJob>(async (job, context, _) =>
        {
            var start = Interlocked.Increment(ref clock);
            switch (nodes[job.Number].Outcomes[nodes[job.Number].Round])
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
        Play(nodes);
        await CheckAsync();

        // Half of those that are dead; what their ends had cancelled comes back.
        retried = [.. nodes.Where(each => each.State == JobState.Dead && random.Next(2) == 0)];
        round = 1;
        foreach (var node in retried)
            (node.State, node.Round) = (null, round);
        for (var found = true; found;)
        {
            found = false;
            foreach (var node in nodes.Where(each => each.ByParent && each.Parents.Keys.Any(parent => parent.State is null)))
            {
                (node.State, node.ByParent) = (null, false);
                found = true;
            }
        }

        output.WriteLine($"{retried.Count} retried, {nodes.Count(each => each.State is null) - retried.Count} back with them");
        Play(nodes);
        Assert.Equal(retried.Count, await new JobAdmin(database.Operator).RetryAsync(new JobFilter { Ids = [.. retried.Select(each => each.Job!.Id)] }, TestContext.Current.CancellationToken));
        await CheckAsync();

        async Task CheckAsync()
        {
            await Eventually.TrueAsync(
                async () => await database.ScalarAsync<long>("SELECT count(*) + (SELECT count(*) FROM outbox.unsettled_jobs) FROM outbox.jobs") == 0, "all jobs have ended", 60);
            var states = (await database.TextsAsync("SELECT concat_ws(' ', id, state, state = 'cancelled' AND errors -> -1 ->> 'type' = 'parent') FROM outbox.job_history")).Order();
            Assert.Equal(nodes.Select(each => $"{each.Job!.Id} {each.State!.Value.ToString().ToLowerInvariant()} {(each.ByParent ? "t" : "f")}").Order(), states);
            Assert.Equal(0, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.job_waits"));
            Assert.Equal(nodes.Where(each => !each.ByParent).Select(each => each.Number), times.Keys.Order());

            // In this round nothing that was to wait came first.
            foreach (var node in nodes.Where(each => !each.ByParent && each.Ran == round && !retried.Contains(each)))
                Assert.All(node.Parents.Keys.Where(each => !each.ByParent && each.Ran == round), parent => Assert.True(times[parent.Number].End < times[node.Number].Start));
        }

        void Play(List<Node> all)
        {
            foreach (var node in all.Where(each => each.State is null))
            {
                // What is retried was let run by its parents before.
                node.ByParent = !retried.Contains(node) && node.Parents.Any(each => each.Value switch
                {
                    RunOn.Success => each.Key.State != JobState.Completed,
                    RunOn.Failure => each.Key.State == JobState.Completed,
                    _ => false,
                });
                node.State = node.ByParent ? JobState.Cancelled : node.Outcomes[node.Round];
                node.Ran = node.ByParent ? node.Ran : round;
            }
        }
    }

    private sealed record Node(int Number, JobState[] Outcomes)
    {
        public Dictionary<Node, RunOn> Parents { get; } = [];

        public WorkflowJob? Job { get; set; }

        public JobState? State { get; set; }

        public bool ByParent { get; set; }

        // Which of its outcomes comes next, and in which round it last ran.
        public int Round { get; set; }

        public int Ran { get; set; } = -1;

        public bool Equals(Node? other) => ReferenceEquals(this, other);

        public override int GetHashCode() => Number;
    }
}
