using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// The queues whose jobs have groups. Few groups, and limits below what the workers of a run could do.
internal static class GroupQueues
{
    public const string Limited = "limited";
    public const string Fifo = "fifo";
    public const string Strict = "strict";
    public const int Groups = 4;
    public const int Concurrency = 6;
    public const int GroupConcurrency = 2;

    public static TimeSpan PushedBackFor { get; } = TimeSpan.FromSeconds(1);

    public static IReadOnlyDictionary<string, QueueLimits> All { get; } = new Dictionary<string, QueueLimits>
    {
        [Limited] = new() { Concurrency = Concurrency, GroupConcurrency = GroupConcurrency },
        [Fifo] = new() { GroupOrder = GroupOrder.Fifo },
        [Strict] = new() { GroupOrder = GroupOrder.Strict },
    };
}
