using System.Collections.Concurrent;
using Microsoft.Extensions.Time.Testing;

namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class JobIdTests
{
    [Fact]
    public void Ids_of_one_thread_ascend_as_postgres_orders_them()
    {
        var ids = Enumerable.Range(0, 20_000).Select(_ => JobId.New().ToString()).ToList();
        Assert.Equal(ids.Order(StringComparer.Ordinal), ids);
        Assert.Equal(ids.Count, ids.Distinct().Count());
    }

    [Fact]
    public void Ids_of_many_threads_differ_and_ascend_in_each()
    {
        ConcurrentBag<List<string>> all = [];
        Parallel.For(0, 8, _ => all.Add([.. Enumerable.Range(0, 5_000).Select(_ => JobId.New().ToString())]));
        Assert.All(all, ids => Assert.Equal(ids.Order(StringComparer.Ordinal), ids));
        Assert.Equal(40_000, all.SelectMany(ids => ids).Distinct().Count());
    }

    [Fact]
    public void An_id_is_a_version_7_uuid_of_the_rfc_variant_and_of_this_time()
    {
        var before = TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds();
        var id = JobId.New();
        Assert.Equal((7, 0x8), (id.Version, id.Variant & 0xC));
        // The counter may run ahead of the clock by what the other tests take from it.
        Assert.InRange(Convert.ToInt64(id.ToString("n")[..12], 16), before, before + 60_000);
    }

    [Fact]
    public void A_clock_that_is_set_back_does_not_set_back_the_ids()
    {
        var clock = new FakeTimeProvider(new DateTimeOffset(2001, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var first = JobId.New();
        var second = JobId.New(clock);
        Assert.True(string.CompareOrdinal(first.ToString(), second.ToString()) < 0);
    }
}
