using System.Globalization;

namespace BackgroundJobs.Outbox.Chaos.History;

// The schedule of a run ticks each second: none of them is left out, whoever was dead, and each has one job, made with it.
internal sealed class TickChecker(Action<string, string> broken)
{
    private readonly HashSet<DateTimeOffset> ticks = [];

    public int Ticks => ticks.Count;

    // Takes the jobs of ticks from those that must come with an entity.
    public void Heard(Committed transaction, HashSet<Guid> inserted)
    {
        foreach (var tick in transaction.Changes.Where(each => each is { Table: "outbox.schedule_ticks", Kind: ChangeKind.Insert }))
        {
            var at = DateTimeOffset.Parse(tick.Values["tick_at"]!, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);
            if (!ticks.Add(at))
                broken(Promise.Ticks, $"the tick of {at:HH:mm:ss.fff} was taken twice");
            if (at > transaction.At)
                broken(Promise.Ticks, $"the tick of {at:HH:mm:ss.fff} was taken at {transaction.At:HH:mm:ss.fff}");
            if (!inserted.Remove(tick.Id("job_id")))
                broken(Promise.Ticks, $"the tick of {at:HH:mm:ss.fff} was committed without its job {tick.Id("job_id")}");
        }
    }

    // What an operator ran between the ticks is no tick.
    public void Finish()
    {
        var seconds = ticks.Where(at => at.Ticks % TimeSpan.TicksPerSecond == 0).ToList();
        if (seconds.Count == 0)
            return;
        for (var at = seconds.Min(); at < seconds.Max(); at = at.AddSeconds(1))
        {
            if (!ticks.Contains(at))
                broken(Promise.Ticks, $"the tick of {at:HH:mm:ss} was left out");
        }
    }
}
