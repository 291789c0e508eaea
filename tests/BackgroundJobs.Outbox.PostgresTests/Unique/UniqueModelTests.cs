namespace BackgroundJobs.Outbox.PostgresTests.Unique;

// Enqueues, comparisons, claims, ends, cancels and the time that passes, in an order by chance: after each comparison every job is where a model of
// a few lines has it, and due when that says.
public sealed class UniqueModelTests(ITestOutputHelper output)
{
    private const int Steps = 400;

    // 0: another one each time.
    [Fault("J13", "jobs of three keys and every rule, enqueued, compared, run and cancelled by chance", "each is where a model has it, and due when that says")]
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(0)]
    public async Task Every_job_is_where_the_model_has_it(int seed)
    {
        seed = seed == 0 ? Random.Shared.Next() : seed;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        await using var keys = await Keys.OpenAsync();
        List<Node> all = [];
        for (var step = 0; step < Steps; step++)
        {
            var node = all.Count > 0 ? all[random.Next(Math.Max(0, all.Count - 12), all.Count)] : null;
            switch (random.Next(10))
            {
                case < 4:
                    var rule = (Rule)random.Next(6);
                    var key = $"{random.Next(3)}";
                    var id = await keys.EnqueueAsync(Unique(rule, key));
                    all.Add(new(id, key, rule) { CreatedAt = await keys.CreatedAsync(id), Due = await keys.DueAsync(id) });
                    break;
                case < 7:
                    await keys.SettleAsync();
                    foreach (var each in all.Where(each => each.State == "blocked").OrderBy(each => each.CreatedAt).ThenBy(each => $"{each.Id}", StringComparer.Ordinal))
                        Settle(each, all);
                    await CheckAsync(keys, all, seed, step);
                    break;
                case 7 when node?.State == "waits":
                    await keys.ClaimAsync(node.Id);
                    node.State = "runs";
                    node.ClaimedAt = await keys.Database.ScalarAsync<DateTime>($"SELECT claimed_at FROM outbox.jobs WHERE id = '{node.Id}'");
                    break;
                case 8 when node?.State == "runs":
                    var end = (JobState)random.Next((int)JobState.Completed, (int)JobState.Dead + 1);
                    await keys.FinishAsync(node.Id, end);
                    node.State = end.ToString().ToLowerInvariant();
                    break;
                case 9 when node?.State is "blocked" or "waits" && random.Next(3) == 0:
                    await keys.Database.ExecuteAsync($"DELETE FROM outbox.jobs WHERE id = '{node!.Id}'");
                    node.State = "gone";
                    break;
            }
        }

        output.WriteLine(string.Join(", ", all.GroupBy(each => each.State).Select(each => $"{each.Count()} {each.Key}")));
        Assert.True(all.Count(each => each.State == "met") > 20, "hardly any has met another");
    }

    private static readonly TimeSpan Period = TimeSpan.FromHours(1);

    private static UniqueJob Unique(Rule rule, string key) => rule switch
    {
        Rule.Waiting => UniqueJob.WhileWaiting(key),
        Rule.Unfinished => UniqueJob.WhileUnfinished(key),
        Rule.Within => UniqueJob.Within(key, Period),
        Rule.Replace => UniqueJob.Replace(key),
        Rule.Debounce => UniqueJob.Debounce(key, Period, Period + TimeSpan.FromMilliseconds(20)),
        _ => UniqueJob.Throttle(key, Period),
    };

    private static void Settle(Node arrived, List<Node> all)
    {
        var others = all.Where(each => each != arrived && each.Key == arrived.Key).OrderBy(each => each.CreatedAt).ThenBy(each => $"{each.Id}", StringComparer.Ordinal).ToList();
        var waiting = others.Where(each => each.State == "waits").ToList();
        var met = arrived.Rule switch
        {
            Rule.Waiting => waiting.FirstOrDefault(),
            Rule.Unfinished => others.FirstOrDefault(each => each.State is "waits" or "runs"),
            Rule.Within => others.FirstOrDefault(each => each.State is "waits" or "runs" or "completed"),
            _ => null,
        };
        if (met is not null)
        {
            (arrived.State, arrived.Met) = ("met", met);
            return;
        }

        // Null: at once, which is some moment after its commit.
        arrived.State = "waits";
        DateTime? first = waiting.Count > 0 && arrived.Rule >= Rule.Replace ? waiting.Min(each => each.Due) : null;
        arrived.AtOnce = first is null ? arrived.Rule != Rule.Debounce : waiting.Any(each => each.AtOnce);
        arrived.Since = waiting.Count > 0 ? waiting.Min(each => each.Since ?? each.CreatedAt) : arrived.CreatedAt;
        if (arrived.Rule < Rule.Replace)
        {
            arrived.Since = null;
            return;
        }

        switch (arrived.Rule)
        {
            case Rule.Debounce:
                var last = arrived.Since.Value + Period + TimeSpan.FromMilliseconds(20);
                arrived.Due = arrived.CreatedAt + Period < last ? arrived.CreatedAt + Period : last;
                arrived.AtOnce = false;
                break;
            case Rule.Throttle when first is null && others.Where(each => each.State is "runs" or "completed" or "dead").Max(each => (DateTime?)each.ClaimedAt) is { } began:
                arrived.Due = began + Period;
                arrived.AtOnce = false;
                break;
            default:
                arrived.Due = first ?? arrived.Due;
                break;
        }

        if (arrived.Rule != Rule.Debounce)
            arrived.Since = null;
        foreach (var each in waiting)
            (each.State, each.Met) = ("met", arrived);
    }

    private static async Task CheckAsync(Keys keys, List<Node> all, int seed, int step)
    {
        var expected = all.Where(each => each.State != "gone").Select(each => $"{each.Id} {each.State} {each.Met?.Id} {(each.State == "waits" && !each.AtOnce ? $"{each.Due:yyyy-MM-dd HH:mm:ss.ffffff}" : "")}");
        var found = await keys.Database.TextsAsync("""
            SELECT format('%s %s %s %s', id,
                CASE WHEN met_id IS NOT NULL THEN 'met' WHEN state = 'running' THEN 'runs' WHEN finished_at IS NULL AND state <> 'blocked' THEN 'waits' ELSE state END,
                met_id,
                CASE WHEN finished_at IS NULL AND claimed_at IS NULL AND run_at > now() + interval '1 min' THEN to_char(run_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') END)
            FROM outbox.all_jobs
            """);
        var (missing, extra) = (expected.Except(found).ToList(), found.Except(expected).ToList());
        Assert.True(missing.Count + extra.Count == 0, $"Seed {seed}, step {step}: the model has {string.Join("; ", missing)}, the database {string.Join("; ", extra)}.");
        foreach (var node in all.Where(each => each.State == "waits" && each.AtOnce))
            node.Due = await keys.DueAsync(node.Id);
    }

    private enum Rule
    {
        Waiting,
        Unfinished,
        Within,
        Replace,
        Debounce,
        Throttle,
    }

    private sealed class Node(Guid id, string key, Rule rule)
    {
        public Guid Id => id;

        public string Key => key;

        public Rule Rule => rule;

        public DateTime CreatedAt { get; init; }

        // blocked, waits, runs, met, gone, or how it ended.
        public string State { get; set; } = "blocked";

        public Node? Met { get; set; }

        public DateTime Due { get; set; }

        public bool AtOnce { get; set; } = true;

        public DateTime? Since { get; set; }

        public DateTime ClaimedAt { get; set; }
    }
}
