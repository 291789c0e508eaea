namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// Claims of a queue with a concurrency and no groups, in every order with each other, with those of workers that claim in turn, and with the first job
// that has a group.
public sealed class RoomInterleavingTests(InterleavingTests.Stage stage, ITestOutputHelper output) : IClassFixture<InterleavingTests.Stage>
{
    [Fault("J22", "claims of a queue without groups beside claims in turn and the first job with a group, in every order", "no more run than may, and no job is stranded")]
    [Fact]
    public async Task No_more_run_than_may_and_none_is_stranded()
    {
        var orders = 0;
        foreach (var one in RoomSituation.All)
        {
            foreach (var other in RoomSituation.All.SkipWhile(each => each != one).Skip(1))
            {
                await using var interleaving = await Interleaving.OfAsync(stage.Database, [one, other], begin: control => new RoomSituation(control));
                orders += await interleaving.AllAsync();
            }
        }

        await using var three = await Interleaving.OfAsync(
            stage.Database, [RoomSituation.ClaimB, RoomSituation.InTurnC, RoomSituation.EnqueueOfGroup], begin: control => new RoomSituation(control));
        orders += await three.AllAsync();
        await using var end = await Interleaving.OfAsync(
            stage.Database, [RoomSituation.ClaimB, RoomSituation.ClaimC, RoomSituation.FinishA], begin: control => new RoomSituation(control));
        orders += await end.AllAsync();
        output.WriteLine($"{orders} orders");
        Assert.True(orders > 0);
    }

    [Theory]
    [InlineData("claim_jobs", "room that is counted without the lock of the queue", "ELSE outbox.room_in_queue($2, $3) END",
        "ELSE known.concurrency - (SELECT count(*) FROM outbox.jobs AS running WHERE running.queue = $2 AND running.lease_token IS NOT NULL)::integer END")]
    [InlineData("claim_jobs", "what was started is not noted", "WHERE quota.limited", "WHERE false")]
    [InlineData("finish_jobs", "an end is counted whose job was not that attempt's any more", "FROM removed\n        WHERE $8", "FROM ended\n        WHERE $8")]
    public async Task A_broken_statement_fails_in_some_order(string file, string what, string from, string to)
    {
        Mutant mutant = new(what, file, (from, to));
        Actor[] actors = file == "claim_jobs" ? [RoomSituation.ClaimB, RoomSituation.ClaimC] : [RoomSituation.ReturnA, RoomSituation.FinishA, RoomSituation.ClaimB];
        await using var interleaving = await Interleaving.OfAsync(
            stage.Database, actors, mutant, control => new RoomSituation(control) { Mutant = mutant });
        var error = await Record.ExceptionAsync(interleaving.AllAsync);
        Assert.True(error is not null, $"Nobody noticed {mutant}.");
        output.WriteLine($"{mutant}: {error.Message}");
    }
}
