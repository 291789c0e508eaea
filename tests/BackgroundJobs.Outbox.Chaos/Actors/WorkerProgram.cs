using System.Diagnostics;
using System.Globalization;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// A worker process: an ordinary host, whose handlers say what they do.
internal static class WorkerProgram
{
    private const int Concurrency = 16;

    public static async Task<int> RunAsync(CancellationToken cancellationToken)
    {
        var settings = ActorSettings.FromEnvironment();
        using var log = new ActorLog(settings.LogFile);
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders().AddProvider(new ActorLogger(log)).SetMinimumLevel(LogLevel.Warning);
        builder.Services.AddDbContext<ChaosDb>(db => db.UseNpgsql(settings.ConnectionString + ";Application Name=handler " + settings.Name).UseOutbox());
        builder.Services.AddOutbox(outbox => Handle(outbox, settings.Lease, log));
        builder.Services.AddOutboxWorker(worker =>
        {
            worker.ConnectionString = settings.ConnectionString;
            worker.Name = settings.Name;
            worker.Lease = settings.Lease;
            worker.HeartbeatInterval = settings.Lease / 3;
            worker.CancellationGrace = settings.Lease;
            worker.Queue("default", Concurrency);
            foreach (var (queue, limits) in GroupQueues.All)
                worker.Queue(queue, GroupQueues.Concurrency, limits);
        });
        using var host = builder.Build();
        StopWithParent(host.Services.GetRequiredService<IHostApplicationLifetime>());
        await using var clock = TimeProvider.System.CreateTimer(_ => SayTime(log), null, TimeSpan.Zero, TimeSpan.FromSeconds(1));
        await host.RunAsync(cancellationToken);
        return 0;
    }

    private static void SayTime(ActorLog log) => log.Write(Word.Clock, Guid.Empty, note: TimeProvider.System.GetUtcNow().ToString("O", CultureInfo.InvariantCulture));

    // The end of our standard input is the end of the run, also of one that was killed: no actor outlives it.
    public static void StopWithParent(IHostApplicationLifetime lifetime) => _ = Task.Run(async () =>
    {
        while (await Console.In.ReadLineAsync(CancellationToken.None) is not null)
        {
        }

        lifetime.StopApplication();
    });

    private static void Handle(OutboxOptions outbox, TimeSpan lease, ActorLog log)
    {
        outbox
            .Handle<PlainJob>(Said<PlainJob>(log, (_, _, _) => Task.CompletedTask))
            .Handle<TickJob>(Said<TickJob>(log, (_, context, _) => context.Tick is null ? throw new InvalidOperationException("of no tick") : Task.CompletedTask))
            .Handle<BriefJob>(Said<BriefJob>(log, (_, _, _) => Task.CompletedTask), kind => kind.History = HistoryPolicy.None)
            .Handle<FlakyJob>(
                Said<FlakyJob>(log, (job, context, _) => context.Failures < job.Failures ? throw new InvalidOperationException("on purpose") : Task.CompletedTask),
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(300)))
            .Handle<HopelessJob>(
                Said<HopelessJob>(log, (_, _, _) => throw new InvalidOperationException("on purpose")),
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(300)))
            .Handle<CrashJob>(Said<CrashJob>(log, (_, context, _) =>
            {
                if (context.Attempt > 1)
                    return Task.CompletedTask;
                log.Write(Word.Crashes, context.JobId, context.Attempt);
                Process.GetCurrentProcess().Kill();
                return Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, CancellationToken.None);
            }))
            .Handle<SnoozeJob>(Said<SnoozeJob>(log, (_, context, _) =>
            {
                if (context.Attempt <= 2)
                    context.Snooze(TimeSpan.FromMilliseconds(300));
                return Task.CompletedTask;
            }))
            .Handle<LongJob>(Said<LongJob>(log, (job, _, token) => Task.Delay(lease * (1 + (job.Hundredths / 100.0)), TimeProvider.System, token)))
            .Handle<GroupJob>(
                Said<GroupJob>(log, async (job, context, token) =>
                {
                    await WorkAsync(job.Milliseconds, token);
                    if (context.Failures < job.Failures)
                        throw new InvalidOperationException("on purpose");
                    if (job.IsPushedBack && context.Attempt == 1)
                        context.PushBack(GroupQueues.PushedBackFor);
                }),
                kind => kind.Retry = RetryPolicy.Fixed(TimeSpan.FromMilliseconds(1500)))
            .Handle<WaitingOnceJob>(Said<WaitingOnceJob>(log, (job, _, token) => WorkAsync(job.Milliseconds, token)))
            .Handle<UnfinishedOnceJob>(Said<UnfinishedOnceJob>(log, (job, _, token) => WorkAsync(job.Milliseconds, token)))
            .Handle<NewestOnceJob>(Said<NewestOnceJob>(log, (job, _, token) => WorkAsync(job.Milliseconds, token)))
            .Handle<EffectJob>(Said<EffectJob>(log, async (job, context, token) =>
            {
                log.Write(Word.Called, context.JobId, context.Attempt);
                var db = context.Services.GetRequiredService<ChaosDb>();
                if (!await db.Entities.AnyAsync(each => each.JobId == context.JobId, token))
                    log.Write(Word.Missing, context.JobId, context.Attempt);
                await Task.Delay(TimeSpan.FromMilliseconds(job.Milliseconds), TimeProvider.System, CancellationToken.None);
                db.Effects.Add(new Effect { JobId = context.JobId, Attempt = context.Attempt });
                context.CompleteWith(db);
                if (job.Grows)
                    db.Entities.Add(new Entity { Operation = Guid.NewGuid(), JobId = Draw.EnqueueAlongside(db.ContinueWorkflow(context), context.JobId).Id });
                try
                {
                    await db.SaveChangesAsync(CancellationToken.None);
                    log.Write(Word.Saved, context.JobId, context.Attempt);
                }
                catch (LeaseLostException)
                {
                    log.Write(Word.Fenced, context.JobId, context.Attempt);
                    throw;
                }
            }))
            .Handle<LateJob>(Said<LateJob>(log, async (job, context, token) =>
            {
                var db = context.Services.GetRequiredService<ChaosDb>();
                if (!await db.Entities.AnyAsync(each => each.Id == job.EntityId && each.Operation == job.Operation, token))
                    log.Write(Word.Missing, context.JobId, context.Attempt);
            }));
    }

    private static Task WorkAsync(int milliseconds, CancellationToken token) => Task.Delay(TimeSpan.FromMilliseconds(milliseconds), TimeProvider.System, token);

    private static Func<TJob, JobContext, CancellationToken, Task> Said<TJob>(ActorLog log, Func<TJob, JobContext, CancellationToken, Task> handler) =>
        async (job, context, token) =>
        {
            log.Write(Word.Started, context.JobId, context.Attempt);
            try
            {
                await handler(job, context, token);
            }
            catch (Exception e)
            {
                log.Write(Word.Threw, context.JobId, context.Attempt, e.GetType().Name);
                throw;
            }

            log.Write(Word.Returned, context.JobId, context.Attempt);
        };
}
