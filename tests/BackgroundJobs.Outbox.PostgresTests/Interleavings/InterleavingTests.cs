using BackgroundJobs.Outbox.PostgresTests.Support;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// The library's own SQL in every order that two sessions can bring about, and of three of which one rescues. Most faults of job queues were
// orders of two or three short transactions; here they are enumerated. Of the triples with a rescue those of four actors that are at work when a
// worker dies are taken in every order, and all others in some orders by chance; OUTBOX_INTERLEAVINGS=all takes all in every order, which takes
// more than an hour.
public sealed class InterleavingTests(InterleavingTests.Stage stage, ITestOutputHelper output) : IClassFixture<InterleavingTests.Stage>
{
    private const int OrdersByChance = 8;

    private static readonly Actor[] OfTheHeldJob = [Actors.ClaimB, Actors.BeatA, Actors.CompleteA, Actors.FailA];

    public static TheoryData<string> Everyone => [.. Actors.All.Select(actor => actor.Name)];

    public static TheoryData<string> Partners => [.. Actors.All.Where(each => ThirdsOf(each).Any()).Select(each => each.Name)];

    [Fault("W06", "a heartbeat beside the completion of the same job, in every order", "neither waits for the other: the lease is the worker's row")]
    [Theory]
    [MemberData(nameof(Everyone))]
    public async Task Two_at_a_time_keep_every_promise_in_every_order(string name)
    {
        var one = Find(name);
        var orders = 0;
        foreach (var other in Actors.All.Skip(IndexOf(one)).Where(each => !Actors.CannotMeet(one, each)))
        {
            await using var interleaving = await Interleaving.OfAsync(stage.Database, [one, other]);
            orders += await interleaving.AllAsync();
        }

        output.WriteLine($"{orders} orders");
        Assert.True(orders > 0);
    }

    [Fault("W14", "a rescue beside a completion, in every order", "one outcome")]
    [Fault("W15", "declared dead while it is about to end, in every order", "one outcome")]
    [Theory]
    [MemberData(nameof(Partners))]
    public async Task Three_at_a_time_of_which_one_rescues_keep_every_promise(string name)
    {
        var one = Find(name);
        var orders = 0;
        foreach (var other in ThirdsOf(one))
        {
            await using var interleaving = await Interleaving.OfAsync(stage.Database, [Actors.Rescue, one, other]);
            orders += await (AllOrders || (OfTheHeldJob.Contains(one) && OfTheHeldJob.Contains(other)) ? interleaving.AllAsync() : interleaving.SomeAsync(OrdersByChance));
        }

        output.WriteLine($"{orders} orders");
        Assert.True(orders > 0);
    }

    // Each of them tells the child of another parent's end.
    [Fault("J08", "two settlements of one child beside the end of a parent, in every order", "the child runs if and only if its parents have completed")]
    [Theory]
    [InlineData("finish A")]
    [InlineData("complete A")]
    [InlineData("cancel")]
    [InlineData("enqueue child")]
    public async Task Two_settlements_beside_an_end_keep_every_promise_in_every_order(string name)
    {
        await using var interleaving = await Interleaving.OfAsync(stage.Database, [Actors.Settle, Actors.Settle, Find(name)]);
        Assert.True(await interleaving.AllAsync() > 0);
    }

    // The end of A's job is seen without what its handler adds, or with it.
    [Fault("J25", "a job is added alongside one that ends, beside a settlement, in every order", "what waits for the one waits for the other, or it is refused")]
    [Theory]
    [InlineData("finish A")]
    [InlineData("complete A")]
    [InlineData("rescue")]
    [InlineData("enqueue child")]
    public async Task What_is_added_alongside_an_end_is_waited_for_in_every_order(string name)
    {
        await using var interleaving = await Interleaving.OfAsync(stage.Database, [Actors.AddAlongside, Actors.Settle, Find(name)]);
        Assert.True(await interleaving.AllAsync() > 0);
    }

    // Each has a job of the same key in hand.
    [Fault("J14", "two comparisons of one key beside an enqueue of it, in every order", "one job of the key is let go")]
    [Theory]
    [InlineData("enqueue twin")]
    [InlineData("claim B")]
    [InlineData("cancel")]
    public async Task Two_comparisons_of_a_key_let_one_job_go_in_every_order(string name)
    {
        await using var interleaving = await Interleaving.OfAsync(stage.Database, [Actors.SettleUnique, Actors.SettleUnique, Find(name)]);
        Assert.True(await interleaving.AllAsync() > 0);
    }

    // Orders that once failed, and one to show how it is written.
    [Theory]
    [InlineData("complete A, rescue", "0 1 0 1 0 1")]
    [InlineData("rescue, cancel", "0 0 1 1 0 1")]
    [InlineData("give up claim A, cancel", "0 0 1 1 0 1")]
    [InlineData("claim A, cancel", "0 1 1 0 1")]
    public async Task An_order_that_failed_once_is_kept(string actors, string order)
    {
        await using var interleaving = await Interleaving.OfAsync(stage.Database, [.. actors.Split(", ").Select(Find)]);
        await interleaving.OneAsync([.. order.Split(' ').Select(int.Parse)]);
    }

    [Fact]
    public void Every_order_is_taken_once()
    {
        Actor[] actors = [new("one", Nothing, Nothing), new("two", Nothing, Nothing, Nothing), new("three", Nothing)];
        var orders = Orders.Of(actors).Select(order => string.Join(' ', order)).ToList();
        Assert.Equal(60, orders.Distinct().Count());
        Assert.Equal(60, orders.Count);
        Assert.All(orders, order => Assert.Equal("0 0 1 1 1 2", string.Join(' ', order.Split(' ').Order())));

        static Task Nothing(Session session) => Task.CompletedTask;
    }

    private static bool AllOrders => Environment.GetEnvironmentVariable("OUTBOX_INTERLEAVINGS") == "all";

    private static IEnumerable<Actor> ThirdsOf(Actor one) => Actors.All.SkipWhile(each => each != one).Where(each => !Actors.CannotMeet(one, each));

    private static Actor Find(string name) => Actors.All.Single(actor => actor.Name == name);

    private static int IndexOf(Actor actor) => Actors.All.TakeWhile(each => each != actor).Count();

    public sealed class Stage : IAsyncLifetime
    {
        internal ScratchDatabase Database { get; private set; } = null!;

        public async ValueTask InitializeAsync()
        {
            Database = await ScratchDatabase.MigratedAsync(prepares: true);
            await Database.ExecuteAsync("SELECT outbox.maintain_history(1, interval '14 days'); CREATE TABLE effects (job_id uuid NOT NULL)");
        }

        public ValueTask DisposeAsync() => Database.DisposeAsync();
    }
}
