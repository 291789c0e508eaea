namespace BackgroundJobs.Outbox.Chaos.History;

/// <summary>What must hold over every run, by the names of the architecture's promises.</summary>
internal static class Promise
{
    public const string NoneLost = "I1 no committed job is lost";
    public const string NoGhost = "I2 nothing runs that was not committed";
    public const string RowsFirst = "I2 a job finds the rows it is about";
    public const string EffectOnce = "I3 an effect happens once, with its completion";
    public const string CalledFirst = "I3 another system is called at least once before the completion";
    public const string Fence = "I4 who lost the lease writes nothing";
    public const string Ticks = "I8 each tick of a schedule has one job";
    public const string Graph = "I12 a job runs when its parents have ended as it wished";
    public const string Limits = "I16 no more run than limits allow";
    public const string Order = "I17 jobs of an ordered group start one after another, in their order";
    public const string InLine = "I18 no group is left out of its line";
    public const string Paused = "I20 a group that is paused or pushed back starts nothing meanwhile";
    public const string Unique = "I19 of a unique key one is enough, and none too few";
    public const string Legal = "I10 every change is a legal one";
    public const string Atomic = "I2 entity and job are committed together, once";
    public const string Honest = "I15 what a writer was told is true";
    public const string Live = "I9 the backlog drains by itself";
    public const string NoLeak = "I13 nothing is left behind";
    public const string Sound = "indexes agree with their tables";

    public static IReadOnlyList<string> All { get; } = [NoneLost, NoGhost, RowsFirst, EffectOnce, CalledFirst, Fence, Ticks, Graph, Limits, Order, InLine, Paused, Unique, Legal, Atomic, Honest, Live, NoLeak, Sound];
}
