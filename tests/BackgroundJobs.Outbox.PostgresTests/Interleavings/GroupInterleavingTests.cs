namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// The statements of limits and groups in every order that two sessions can bring about, and two claims beside each of the others in some by chance: no
// limit is exceeded, in strict order none starts before its turn, and no group is left that nobody would look at.
public sealed class GroupInterleavingTests(InterleavingTests.Stage stage, ITestOutputHelper output) : IClassFixture<InterleavingTests.Stage>
{
    private const int OrdersByChance = 15;

    public static TheoryData<string, string> Everyone => new(
        from order in new[] { "any", "strict" }
        from actor in GroupActors.All
        where actor != GroupActors.ClaimC
        select (order, actor.Name));

    [Fault("J18", "two sessions at the groups of a queue in every order, and two claims beside a third in some", "no limit is exceeded, no turn passed over, no group stranded")]
    [Theory]
    [MemberData(nameof(Everyone))]
    public async Task No_limit_is_exceeded_no_turn_is_passed_over_and_no_group_is_stranded(string order, string name)
    {
        var one = GroupActors.All.Single(each => each.Name == name);
        var orders = 0;
        foreach (var other in GroupActors.All.SkipWhile(each => each != one).Where(each => !GroupActors.CannotMeet(one, each)))
        {
            await using var interleaving = await Interleaving.OfAsync(stage.Database, [one, other], begin: control => new GroupSituation(control, order));
            orders += await interleaving.AllAsync();
        }

        if (!GroupActors.Claims(one))
        {
            await using var three = await Interleaving.OfAsync(
                stage.Database, [GroupActors.ClaimB, GroupActors.ClaimC, one], begin: control => new GroupSituation(control, order));
            orders += await three.SomeAsync(OrdersByChance);
        }

        output.WriteLine($"{orders} orders");
        Assert.True(orders > 0);
    }

    // Whether the orders would notice.
    [Theory]
    [InlineData("an end that looks at its group before it has waited for the claim", "claim B, finish A", "any", "free_groups",
        "SELECT outbox.free_groups($1, $2)", "UPDATE outbox.job_groups SET state = 'ready', look_at = NULL WHERE queue = ANY ($1) AND job_group = ANY ($2) AND state = 'full'")]
    [InlineData("an end that is not told", "claim B, finish A", "strict", "free_groups", "SELECT outbox.free_groups($1, $2)", "SELECT $1::text[], $2::text[]")]
    [InlineData("a resume that forgets whose turn it is", "push back A, pause and resume", "strict", "resume_group", "CASE WHEN state = 'failed' THEN NULL ELSE head END", "NULL")]
    [InlineData("a cancel of what is being claimed", "finish A, claim B, cancel first", "any", "cancel_waiting_jobs", "    FOR UPDATE SKIP LOCKED\n", "", "      AND job.lease_token IS NULL\n", "")]
    [InlineData("a request that passes over what is being claimed", "finish A, claim B, ask first to stop", "any", "request_cancel",
        "\n),\nleft_over", "\n    FOR NO KEY UPDATE SKIP LOCKED\n),\nleft_over")]
    [InlineData("an end of what was asked to stop and runs", "ask held to stop, finish cancelled", "any", "finish_cancelled_jobs", "          AND lease_token IS NULL\n", "")]
    [InlineData("a weight that forgets what runs", "claim B, set group", "any", "set_group", "SET weight = excluded.weight,", "SET weight = excluded.weight, holders = '{}',")]
    [InlineData("a look that misses what is full", "finish A and die, look for missed groups", "strict", "list_missed_groups", "WHEN known.state = 'full' THEN (", "WHEN known.state = 'full' THEN false AND (")]
    [InlineData("a death that reads as any other end", "claim B, die A", "strict", "finish_jobs", "        ended.state,", "        'completed',")]
    public async Task A_broken_statement_fails_in_some_order(string what, string actors, string order, string file, params string[] fromAndTo)
    {
        Mutant mutant = new(what, file, [.. fromAndTo.Chunk(2).Select(each => (each[0], each[1]))]);
        await using var interleaving = await Interleaving.OfAsync(
            stage.Database,
            [.. actors.Split(", ").Select(name => GroupActors.All.Single(each => each.Name == name))],
            mutant,
            control => new GroupSituation(control, order) { Mutant = mutant });
        var error = await Record.ExceptionAsync(interleaving.AllAsync);
        Assert.True(error is not null, $"Nobody noticed {mutant}.");
        output.WriteLine($"{mutant}: {error.Message}");
    }
}
