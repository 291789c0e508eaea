using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using static BackgroundJobs.Outbox.PostgresTests.Groups.GroupModel;

namespace BackgroundJobs.Outbox.PostgresTests.Groups;

// Everything that can happen to groups and their jobs, in an order by chance: a claim takes what the model lets start and in its order, nothing
// where that has nothing, and something where it has; and at the end everything has run.
public sealed class GroupModelTests(ITestOutputHelper output)
{
    private const int Steps = 400;
    private const int MaxCrashes = 4;
    private const int Few = 40;
    private const int Many = 400;

    private static readonly TimeSpan Later = TimeSpan.FromMinutes(50);
    private static readonly TimeSpan HalfAMinute = TimeSpan.FromSeconds(31);
    private static readonly TimeSpan PartOfAPeriod = Period * 0.37;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    // 0: another one each time.
    [Fault("J15", "jobs of groups, of limits, rates, weights and orders by chance, are enqueued, claimed, ended, cancelled, pushed back and paused; workers die", "a claim takes all that a model lets start, in its order; at the end everything has run")]
    [Fault("J16", "an end is not told to its full group: its process did not live to", "the group is found by whoever looks next, twice a minute")]
    [Fault("J17", "a job comes to lie before others of its group, as a late commit does", "it is the next one, as soon as it was looked for")]
    [Theory]
    [InlineData(GroupOrder.Any, Few, 1)]
    [InlineData(GroupOrder.Any, Few, 2)]
    [InlineData(GroupOrder.Any, Few, 7000)]
    [InlineData(GroupOrder.Any, Few, 7014)]
    [InlineData(GroupOrder.Any, Few, 1776877611)]
    [InlineData(GroupOrder.Any, Few, 0)]
    [InlineData(GroupOrder.Any, Many, 6)]
    [InlineData(GroupOrder.Any, Many, 8)]
    [InlineData(GroupOrder.Any, Many, 818460847)]
    [InlineData(GroupOrder.Any, Many, 1551803559)]
    [InlineData(GroupOrder.Any, Many, 0)]
    [InlineData(GroupOrder.Fifo, Few, 3)]
    [InlineData(GroupOrder.Fifo, Few, 2016578488)]
    [InlineData(GroupOrder.Fifo, Few, 0)]
    [InlineData(GroupOrder.Strict, Few, 4)]
    [InlineData(GroupOrder.Strict, Few, 5)]
    [InlineData(GroupOrder.Strict, Few, 0)]
    public async Task A_claim_takes_what_the_model_lets_start_and_everything_runs_at_last(GroupOrder order, int open, int seed)
    {
        seed = seed == 0 ? Random.Shared.Next() : seed;
        output.WriteLine($"seed {seed}");
        await using var database = await ScratchDatabase.MigratedAsync();
        Run run = new(database, order, open, new(seed));
        try
        {
            await run.BeginAsync();
            for (var step = 0; step < Steps; step++)
                await run.StepAsync();
            await run.DrainAsync();
        }
        catch (Exception e)
        {
            throw new InvalidOperationException($"[InlineData(GroupOrder.{order}, {open}, {seed})], after {string.Join("; ", run.Done.TakeLast(15))}: {e.Message}", e);
        }

        output.WriteLine($"{run.Model.Jobs.Count} jobs, {run.Claimed} claimed; {string.Join(", ", run.Done.GroupBy(each => each.Split(' ')[0]).Select(each => $"{each.Count()} {each.Key}"))}");
        output.WriteLine($"shares compared {run.Model.Compared} times, at most {run.Model.MostUneven:0.##} turns apart");
        Assert.True(run.Claimed > Steps / 10, "hardly anything was claimed");
        Assert.True(open == Few || run.Model.Compared > Steps / 20, "hardly any shares were compared");
    }

    private sealed class Run(ScratchDatabase database, GroupOrder order, int open, Random random)
    {
        private readonly JobQueue queue = new(database.DataSource);
        private readonly JobAdmin admin = new(database.Operator);
        private readonly List<Guid> workers = [];
        private readonly HashSet<int> dead = [];
        private TimeSpan passed;

        // Nothing has happened since, but claims.
        private bool looked;

        public GroupModel Model { get; } = new(order);

        public List<string> Done { get; } = [];

        public int Claimed { get; private set; }

        public async Task BeginAsync()
        {
            for (var each = 0; each < 2; each++)
                workers.Add(await Workers.RegisterAsync(database));
            await SetLimitsAsync();
            foreach (var group in Model.Groups.Where(_ => open == Many))
                await SetGroupAsync(group, SomeWeight(), null);
            await CheckAsync();
        }

        public async Task StepAsync()
        {
            var group = Pick(Model.Groups)!;
            switch (random.Next(100))
            {
                case < 18 when Model.Open.Count() < open:
                    await EnqueueAsync();
                    break;
                case < 50:
                    await ClaimAsync(random.Next(1, 9), random.Next(5) == 0, random.Next(4) > 0);
                    break;
                case < 75:
                    var running = Model.Running.Where(each => !dead.Contains(each.Worker)).ToArray();
                    random.Shuffle(running);
                    foreach (var job in running.Take(open / Few))
                        await EndAsync(job, random.Next(open / Few) == 0 ? random.Next(8) : 0, open == Many || random.Next(6) > 0);
                    break;
                case < 79 when Pick(Model.Jobs.Where(each => each.State == State.Waits)) is { } job:
                    Did($"cancel {job}");
                    Assert.True(await admin.CancelAsync(job.Id, null, Cancellation));
                    (job.State, job.Group.IsStale) = (State.Done, job.Group.IsStale || job.Group.Head == job);
                    break;
                case < 81 when Pick(Model.Jobs.Where(each => each.State == State.Dead)) is { } job:
                    Did($"retry {job}");
                    Assert.True(await admin.RetryAsync(job.Id, Cancellation));
                    (job.State, job.Crashes) = (State.Waits, 0);
                    break;
                case < 83:
                    TimeSpan? time = random.Next(2) == 0 ? SomeTime() : null;
                    Did($"pause '{group.Name}' {time}");
                    await PauseAsync(group, time);
                    break;
                case < 86:
                    await ResumeAsync(group);
                    break;
                case < 88 when open == Few:
                    await SetLimitsAsync();
                    break;
                case < 90:
                    int? concurrency = random.Next(3) == 0 ? random.Next(1, 4) : null;
                    await SetGroupAsync(group, open == Few ? SomeWeight() : group.Weight, concurrency);
                    break;
                case < 92 when open == Few && random.Next(2) == 0:
                    await KillAsync();
                    break;
                case < 95:
                    await RescueAsync();
                    break;
                case < 96:
                    Did("forget");
                    await queue.ForgetGroupsAsync(Cancellation);
                    break;
                case < 100:
                    await PassAsync(random.Next(4) switch { 0 => Later, 1 => PartOfAPeriod, _ => HalfAMinute });
                    break;
            }

            await CheckAsync();
        }

        public async Task DrainAsync()
        {
            foreach (var worker in Enumerable.Range(0, workers.Count).Except(dead).ToList())
            {
                foreach (var job in Model.Running.Where(each => each.Worker == worker).ToList())
                    await EndAsync(job, 0, isFreed: true);
            }

            foreach (var group in Model.Groups)
                await ResumeAsync(group);
            for (var round = 0; Model.Open.Any(); round++)
            {
                Assert.True(round < 300, $"stranded: {string.Join("; ", Model.Open)}; {string.Join("; ", await database.TextsAsync("SELECT g::text FROM outbox.job_groups AS g"))}");
                await RescueAsync();
                await PassAsync(Later);
                await CheckAsync();
                foreach (var suspects in new[] { false, true })
                {
                    await ClaimAsync(open, suspects, files: true);
                    await CheckAsync();
                }

                foreach (var job in Model.Running.Where(each => !dead.Contains(each.Worker)).ToList())
                    await EndAsync(job, 0, isFreed: true);
                foreach (var group in Model.Groups.Where(each => each.Head?.State == State.Dead))
                    await ResumeAsync(group);
                await CheckAsync();
            }
        }

        private async Task EnqueueAsync()
        {
            List<string> rows = [];
            for (var count = random.Next(1, open / 8); count > 0; count--)
            {
                Job job = new(Guid.NewGuid(), Pick(Model.Groups)!, random.Next(1, 5));
                Model.Jobs.Add(job);
                var at = random.Next(6) == 0 ? $"+ interval '{Later.TotalSeconds} s'" : $"- interval '{random.Next(1, 1000)} s'";
                rows.Add($"('{job.Id}', 'number', '{{\"number\": 1}}', nullif('{job.Group.Name}', ''), {job.Priority}, now() {at})");
            }

            Did($"enqueue {rows.Count}");
            await database.ExecuteAsync($"INSERT INTO outbox.jobs (id, kind, args, job_group, priority, run_at) VALUES {string.Join(", ", rows)}");
        }

        private async Task ClaimAsync(int limit, bool suspects, bool files)
        {
            var worker = Enumerable.Range(0, workers.Count).Except(dead).ElementAt(random.Next(2));
            var sure = (suspects ? looked : files) ? Model.Sure(limit, suspects) : 0;
            var request = ClaimRequest.Everything("default", limit, workers[worker], ["number"], suspects) with { InTurn = true };
            var jobs = await queue.ClaimAsync(files ? request : request with { AfterRunAt = [.. Enumerable.Repeat(DateTime.MaxValue, 4)] });
            var known = looked;
            Did($"claim {limit}{(suspects ? " suspects" : "")}{(files ? "" : " unfiled")}: {string.Join(", ", jobs.Select(each => $"{each.Id} '{each.Group}'"))}");
            looked = known || (files && !suspects);
            Assert.InRange(jobs.Count, 0, limit);

            // A claim of suspects looks for none that came to lie before them.
            if (jobs.Count > 0)
                Model.Now = jobs[0].ClaimedAt + passed;
            var wrong = Model.Take([.. jobs.Select(each => each.Id)], limit, suspects, looked: files && !suspects, worker);
            Assert.True(wrong is null, wrong);
            Assert.True(jobs.Count >= (suspects ? Math.Min(1, sure) : sure), $"{sure} may start, and {jobs.Count} were claimed");
            foreach (var job in jobs)
                Model.Jobs.Single(each => each.Id == job.Id).Claimed = job;
            Claimed += jobs.Count;
        }

        private async Task EndAsync(Job job, int how, bool isFreed)
        {
            Did($"end {job} by {how}{(isFreed ? "" : ", not told")}");
            await using var connection = await database.DataSource.OpenConnectionAsync(Cancellation);
            switch (how)
            {
                case < 4:
                    await FinishAsync(JobState.Completed, State.Done);
                    break;
                case 4:
                    await FinishAsync(JobState.Dead, State.Dead);
                    break;
                case 5:
                    await GiveBackAsync(random.Next(2) == 0 ? Later : TimeSpan.Zero, failed: true);
                    break;
                case 6:
                    await GiveBackAsync(null, failed: false);
                    break;
                default:
                    var time = SomeTime();
                    await queue.PushBackAsync(connection, [new RescheduledJob(job.Claimed!, time, false, null, null, true)]);
                    Model.PushBack(job.Group, time);
                    await GiveBackAsync(time, failed: false);
                    break;
            }

            if (isFreed)
                await queue.FreeGroupsAsync(connection, [("default", job.Claimed!.Group)]);
            else
                job.Group.IsStale = true;

            async Task FinishAsync(JobState state, State then)
            {
                Assert.Empty(await queue.FinishAsync(connection, [new FinishedJob(job.Claimed!, state, HistoryPolicy.Keep, null)], prepare: false));
                job.State = then;
            }

            async Task GiveBackAsync(TimeSpan? delay, bool failed)
            {
                Assert.Single(await queue.RescheduleAsync(connection, [new RescheduledJob(job.Claimed!, delay, failed, null, null)]));
                job.State = State.Waits;
            }
        }

        private async Task PauseAsync(Group group, TimeSpan? time)
        {
            await admin.PauseGroupAsync("default", group.Name, time is { } known ? TimeProvider.System.GetUtcNow() + known : null, null, Cancellation);
            Model.Pause(group, time);
        }

        // One that waits for a dead job passes that over, if a claim has noticed.
        private async Task ResumeAsync(Group group)
        {
            Did($"resume '{group.Name}'");
            var isFailed = await database.ScalarAsync<string?>($"SELECT state FROM outbox.job_groups WHERE job_group = '{group.Name}'") == "failed";
            Assert.True(await admin.ResumeGroupAsync("default", group.Name, Cancellation) || !(isFailed || group.PausedUntil > Model.Now), "It was not resumed.");
            group.PausedUntil = null;
            if (isFailed)
                group.Head = null;
        }

        private async Task SetLimitsAsync()
        {
            QueueLimits limits = new()
            {
                Concurrency = IsLimited() ? random.Next(1, 8) : null,
                Rate = IsLimited() ? new(random.Next(1, 8), Period) : null,
                GroupConcurrency = order == GroupOrder.Any && IsLimited() ? random.Next(1, 4) : null,
                GroupRate = IsLimited() ? new(random.Next(1, 4), Period) : null,
                GroupOrder = order,
            };
            Did($"limits {limits.Concurrency} {limits.Rate?.Jobs} {limits.GroupConcurrency} {limits.GroupRate?.Jobs}");
            await admin.SetLimitsAsync("default", limits, Cancellation);
            Model.SetLimits(limits);
        }

        private async Task SetGroupAsync(Group group, double weight, int? concurrency)
        {
            Did($"set '{group.Name}' {weight} {concurrency}");
            await admin.SetGroupAsync("default", group.Name, weight, concurrency, Cancellation);
            Model.SetGroup(group, weight, concurrency);
        }

        private async Task KillAsync()
        {
            var worker = Enumerable.Range(0, workers.Count).Except(dead).First();
            Did($"kill {worker}");
            await database.ExecuteAsync($"UPDATE outbox.workers SET heartbeat_at = now() - interval '1 day' WHERE id = '{workers[worker]}'");
            dead.Add(worker);
            workers.Add(await Workers.RegisterAsync(database, TimeSpan.FromDays(1)));
        }

        private async Task RescueAsync()
        {
            Did("rescue");
            await queue.RescueAsync(MaxCrashes, Cancellation);
            foreach (var worker in dead)
                Model.Rescue(worker, MaxCrashes);
        }

        private async Task PassAsync(TimeSpan time)
        {
            Did($"pass {time}");
            var by = $"interval '{time.TotalSeconds} s'";
            await database.ExecuteAsync($"""
                UPDATE outbox.jobs SET run_at = run_at - {by};
                UPDATE outbox.queues SET started_at = {Moved("started_at")}, groups_looked_at = groups_looked_at - {by};
                UPDATE outbox.job_groups SET
                    look_at = look_at - {by},
                    paused_until = paused_until - {by},
                    started_at = {Moved("started_at")},
                    after_run_at = {Moved("after_run_at")}
                """);
            passed += time;
            await queue.FreeMissedGroupsAsync(["default"], TimeSpan.Zero, Cancellation);
            Model.Pass(time);

            string Moved(string times) => $"ARRAY(SELECT at - {by} FROM unnest({times}) WITH ORDINALITY AS each (at, p) ORDER BY p)";
        }

        // The jobs are where the model has them; when they are due is the database's to say.
        private async Task CheckAsync()
        {
            Model.Now = await database.ScalarAsync<DateTime>("SELECT clock_timestamp()") + passed;
            var found = await database.TextsAsync("""
                SELECT concat_ws(' ', id, lease_token IS NOT NULL, run_at <= now(), extract(epoch FROM run_at) * 1000000)
                FROM outbox.jobs
                """);
            var rows = found.ConvertAll(each => each.Split(' ')).ToDictionary(each => Guid.Parse(each[0]));
            Assert.Equal(Model.Open.Select(each => each.Id).Order(), rows.Keys.Order());
            foreach (var job in Model.Open)
            {
                var row = rows[job.Id];
                Assert.True((job.State == State.Runs) == (row[1] == "t"), $"{job}: leased {row[1]}");
                job.IsDue = row[2] == "t";
                job.RunAt = DateTime.UnixEpoch.AddMicroseconds((double)decimal.Parse(row[3], System.Globalization.CultureInfo.InvariantCulture));
            }
        }

        // Where many wait it is their groups' turns that decide. Suspects do not wait for theirs, and limits that are set put groups where they were.
        private bool IsLimited() => open == Few && random.Next(2) == 0;

        private double SomeWeight() => Math.Pow(10, random.Next(-1, 2));

        private TimeSpan SomeTime() => TimeSpan.FromSeconds(random.Next(10, (int)Later.TotalSeconds));

        private void Did(string what)
        {
            Done.Add(what);
            looked = false;
        }

        private T? Pick<T>(IEnumerable<T> from)
            where T : class
        {
            var all = from.ToList();
            return all.Count == 0 ? null : all[random.Next(all.Count)];
        }
    }
}
