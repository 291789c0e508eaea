using BackgroundJobs.Outbox.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// What chance decides about one operation, all of it drawn before the operation begins.
internal sealed class Draw
{
    private readonly int kind;
    private readonly int milliseconds;
    private readonly int patience;

    public Draw(Random random)
    {
        Operation = NewId(random);
        Second = NewId(random);
        kind = random.Next(100);
        milliseconds = random.Next(random.Next(8) == 0 ? 1500 : 100);
        Failures = 1 + random.Next(3);
        patience = random.Next(200);
    }

    public Guid Operation { get; }

    public Guid Second { get; }

    public int Failures { get; }

    // Ids are the seed's too: a second run of an incarnation's seed is told apart by the incarnation, which is part of its seed.
    private static Guid NewId(Random random)
    {
        Span<byte> bytes = stackalloc byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes);
    }

    // A user who does not wait: a twentieth of them goes away while the commit is under way.
    public CancellationToken Impatient() =>
        patience < 10 ? new CancellationTokenSource(TimeSpan.FromMilliseconds(patience), TimeProvider.System).Token : CancellationToken.None;

    public WorkflowJob Enqueue(DbWorkflow flow) => kind switch
    {
        < 30 => flow.Enqueue(new EffectJob(milliseconds, Grows: milliseconds % 2 == 0)),
        < 50 => flow.Enqueue(new BriefJob()),
        < 70 => flow.Enqueue(new HopelessJob()),
        < 90 => flow.Enqueue(new FlakyJob(Failures)),
        < 99 => flow.Enqueue(new LongJob(milliseconds % 100)),
        _ => flow.Enqueue(new CrashJob()),
    };

    public EffectJob Part => new(10, Grows: milliseconds % 3 == 0);

    // In the handler: by the id, so that another attempt adds one of the same kind.
    public static WorkflowJob EnqueueAlongside(DbWorkflow flow, Guid parent) => (parent.ToByteArray()[^1] % 4) switch
    {
        0 => flow.EnqueueAlongside(new HopelessJob()),
        1 => flow.EnqueueAlongside(new FlakyJob(1)),
        2 => flow.EnqueueAlongside(new EffectJob(10)),
        _ => flow.EnqueueAlongside(new EffectJob(10, Grows: true)),
    };

    // One in a few fails, dies or pushes its group back. Half of them are due later: what is committed before it is due has its place in the
    // order for certain.
    public Guid EnqueueGrouped(DbContext db, string queue, int number)
    {
        var chance = (kind + (number * 37)) % 100;
        return db.Enqueue(
            new GroupJob(milliseconds % 100, chance switch { < 8 => 1, < 10 => 2, _ => 0 }, chance is >= 20 and < 25),
            new EnqueueOptions
            {
                Queue = queue,
                Group = $"group {patience % GroupQueues.Groups}",
                MaxAttempts = chance < 10 ? 2 : null,
                Delay = chance % 2 == 0 ? TimeSpan.FromMilliseconds(2000 + (chance * 10)) : null,
            });
    }

    // One of each rule; few keys, so that they meet. A fifth waits for a while, where others meet it.
    public IReadOnlyList<Guid> EnqueueOnce(DbContext db)
    {
        var key = $"{kind % 5}";
        return
        [
            db.Enqueue(new WaitingOnceJob(milliseconds), Once(UniqueJob.WhileWaiting(key))),
            db.Enqueue(new UnfinishedOnceJob(milliseconds), Once(UniqueJob.WhileUnfinished(key))),
            db.Enqueue(new NewestOnceJob(milliseconds), Once(UniqueJob.Replace(key))),
        ];

        EnqueueOptions Once(UniqueJob unique) => new() { Unique = unique, Delay = patience % 5 == 0 ? TimeSpan.FromSeconds(1) : null };
    }

    public Guid Enqueue(DbContext db) => kind switch
    {
        < 40 => db.Enqueue(new EffectJob(milliseconds)),
        < 60 => db.Enqueue(new PlainJob()),
        < 65 => db.Enqueue(new BriefJob()),
        < 75 => db.Enqueue(new FlakyJob(Failures)),
        < 80 => db.Enqueue(new SnoozeJob()),
        < 85 => db.Enqueue(new HopelessJob()),
        < 96 => db.Enqueue(new PlainJob(), new EnqueueOptions { Delay = TimeSpan.FromMilliseconds(milliseconds) }),
        < 99 => db.Enqueue(new LongJob(milliseconds % 100)),
        _ => db.Enqueue(new CrashJob()),
    };
}
