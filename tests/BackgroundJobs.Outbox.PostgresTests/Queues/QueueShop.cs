using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Groups;
using BackgroundJobs.Outbox.PostgresTests.Support;
using BackgroundJobs.Outbox.Worker;

namespace BackgroundJobs.Outbox.PostgresTests.Queues;

// A worker whose queues share slots, the order in which their jobs started, and a door that jobs of theirs wait at when it is closed.
internal sealed class QueueShop : IAsyncDisposable
{
    private readonly Lock gate = new();
    private readonly List<string> starts = [];
    private readonly SemaphoreSlim passes = new(0);
    private volatile bool closed;
    private volatile bool claims;

    public ScratchDatabase Database { get; private set; } = null!;

    public WorkerHost? Worker { get; private set; }

    public List<string> Starts
    {
        get
        {
            lock (gate)
                return [.. starts];
        }
    }

    public static async Task<QueueShop> OpenAsync() => new() { Database = await ScratchDatabase.MigratedAsync() };

    public async Task StartAsync(Action<OutboxWorkerOptions> queues, Func<Task>? work = null, Func<JobContext, Gauge>? gauge = null)
    {
        Worker = await WorkerHost.StartAsync(
            Database,
            o =>
            {
                // One claim after the other.
                o.FaultPoint = point =>
                {
                    claims = point switch { "claim" => true, "claim answered" => false, _ => claims };
                    return Task.CompletedTask;
                };
                o.Handle<NumberJob>(async (_, context, token) =>
                {
                    lock (gate)
                        starts.Add(context.Queue);
                    if (closed)
                        await passes.WaitAsync(token);
                    else
                        await (gauge?.Invoke(context) ?? new Gauge()).RunAsync(work ?? (() => Task.CompletedTask));
                });
            },
            queues);
    }

    public void Close() => closed = true;

    public void LetPass(int jobs = 1) => passes.Release(jobs);

    public void Open()
    {
        closed = false;
        LetPass(10_000);
    }

    public Task EnqueueAsync(string queue, int jobs, string? group = null, DateTimeOffset? runAt = null) => (Worker?.Queue ?? new JobQueue(Database.DataSource)).EnqueueAsync(
        [.. Enumerable.Range(0, jobs).Select(n => NewJob.Create(new NumberJob(n), new() { Queue = queue, Group = group, RunAt = runAt }))], TestContext.Current.CancellationToken);

    public Task StartedAsync(int jobs) => Eventually.TrueAsync(() => Starts.Count >= jobs, $"{jobs} have started");

    public Task<long> ClaimedAsync(string queue) => Database.ScalarAsync<long>($"SELECT count(*) FROM outbox.jobs WHERE queue = '{queue}' AND lease_token IS NOT NULL");

    // So many are the worker's, and it knows, which is a moment after the database does.
    public Task HasClaimedAsync(string queue, int jobs) =>
        Eventually.TrueAsync(async () => await ClaimedAsync(queue) >= jobs && !claims, $"{jobs} of {queue} are claimed", 5);

    // Jobs of "low" run fast until many are claimed ahead; then the door closes, and those wait behind what runs.
    public async Task ClaimAheadAsync()
    {
        await EnqueueAsync("low", 4000);
        await StartedAsync(1000);
        Close();
        await Eventually.TrueAsync(async () => await ClaimedAsync("low") is > 40, "some are claimed ahead");
    }

    // Each job takes longer now: what was claimed ahead before waits for long, and no more is.
    public async Task SlowDownAsync()
    {
        for (var n = 0; n < 12; n++)
        {
            var before = Starts.Count;
            await Task.Delay(TimeSpan.FromMilliseconds(70), TimeProvider.System, TestContext.Current.CancellationToken);
            await EnqueueAsync("low", 1);
            LetPass();
            await StartedAsync(before + 1);
        }
    }

    public Task DrainedAsync(double seconds = 30) =>
        Eventually.TrueAsync(async () => await Database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended", seconds);

    public async ValueTask DisposeAsync()
    {
        Open();
        if (Worker is not null)
            await Worker.DisposeAsync();
        await Database.DisposeAsync();
        passes.Dispose();
    }
}
