namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class RetryPolicyTests
{
    private static readonly Exception Any = new InvalidOperationException("broken");

    private static TimeSpan Delay(RetryPolicy policy, int failures) => policy.Decide(failures, 1000, Any).Delay;

    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 2)]
    [InlineData(3, 4)]
    [InlineData(12, 2048)]
    [InlineData(13, 3600)]
    [InlineData(999, 3600)]
    public void By_default_the_delay_doubles_up_to_an_hour_less_at_most_a_fifth(int failures, int seconds)
    {
        for (var i = 0; i < 100; i++)
            Assert.InRange(Delay(RetryPolicy.Default, failures), TimeSpan.FromSeconds(seconds * 0.8), TimeSpan.FromSeconds(seconds));
    }

    [Fact]
    public void Jobs_that_failed_together_do_not_come_back_together() =>
        Assert.True(Enumerable.Range(0, 50).Select(_ => Delay(RetryPolicy.Default, 5)).Distinct().Count() > 25);

    [Fault("W37", "the delay after a thousand failures", "ends at its cap")]
    [Theory]
    [InlineData(0, 10, 999)]
    [InlineData(1, 1e9, 999)]
    [InlineData(0, 2, 1)]
    public void A_growth_beyond_all_numbers_ends_at_the_cap(int firstSeconds, double factor, int failures) => Assert.InRange(
        Delay(RetryPolicy.Exponential(TimeSpan.FromSeconds(firstSeconds), factor, TimeSpan.FromMinutes(1)), failures), TimeSpan.Zero, TimeSpan.FromMinutes(1));

    [Fact]
    public void Without_jitter_the_delay_is_exact()
    {
        var policy = RetryPolicy.Exponential(TimeSpan.FromSeconds(3), 3, TimeSpan.FromSeconds(20), jitter: 0);
        Assert.Equal([3, 9, 20, 20], Enumerable.Range(1, 4).Select(failures => Delay(policy, failures).TotalSeconds));
    }

    [Fact]
    public void Fixed_and_listed_delays_and_none()
    {
        Assert.Equal(TimeSpan.FromSeconds(7), Delay(RetryPolicy.Fixed(TimeSpan.FromSeconds(7)), 500));
        var listed = RetryPolicy.Delays(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(5));
        Assert.Equal([JobEnd.Retry, JobEnd.Retry, JobEnd.Dead], Enumerable.Range(1, 3).Select(failures => listed.Decide(failures, 20, Any).End));
        Assert.Equal(TimeSpan.FromSeconds(5), Delay(listed, 2));
        Assert.Equal(JobEnd.Dead, RetryPolicy.None.Decide(1, 20, Any).End);
    }

    [Fact]
    public void The_last_allowed_failure_is_dead_and_keeps_its_error()
    {
        Assert.Equal(JobEnd.Retry, RetryPolicy.Default.Decide(19, 20, Any).End);
        var last = RetryPolicy.Default.Decide(20, 20, Any);
        Assert.Equal((JobEnd.Dead, "broken"), (last.End, last.Error!.Message));
        Assert.Equal(JobEnd.Dead, RetryPolicy.Default.Decide(1, 1, Any).End);
    }

    [Fact]
    public void A_rule_holds_for_its_exception_derived_ones_and_inner_ones()
    {
        var policy = RetryPolicy.Default.When<ArgumentException>(RetryPolicy.None);
        Assert.Equal(JobEnd.Dead, policy.Decide(1, 20, new ArgumentNullException("x")).End);
        Assert.Equal(JobEnd.Dead, policy.Decide(1, 20, new InvalidOperationException("outer", new ArgumentException("inner"))).End);
        Assert.Equal(JobEnd.Retry, policy.Decide(1, 20, Any).End);
        Assert.Equal(JobEnd.Retry, RetryPolicy.Default.Decide(1, 20, new ArgumentException("x")).End);
    }

    [Fact]
    public void The_rule_added_last_is_asked_first_and_a_condition_narrows_it()
    {
        var policy = RetryPolicy.Default
            .When<ArgumentException>(RetryPolicy.None)
            .When<ArgumentException>(RetryPolicy.Fixed(TimeSpan.FromSeconds(9)), e => e.ParamName == "retry")
            .CancelWhen<ArgumentException>(e => e.ParamName == "cancel");
        Assert.Equal(JobEnd.Dead, policy.Decide(1, 20, new ArgumentException("x", "other")).End);
        Assert.Equal(TimeSpan.FromSeconds(9), policy.Decide(1, 20, new ArgumentException("x", "retry")).Delay);
        Assert.Equal(JobEnd.Cancelled, policy.Decide(1, 20, new ArgumentException("x", "cancel")).End);
        Assert.Equal(JobEnd.Dead, policy.Decide(20, 20, new ArgumentException("x", "retry")).End);
    }

    [Fact]
    public void Values_that_make_no_sense_are_refused_when_the_policy_is_made()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Exponential(TimeSpan.FromSeconds(-1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Exponential(factor: 0.5));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Exponential(cap: TimeSpan.FromTicks(-1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Exponential(jitter: 1.1));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Fixed(TimeSpan.FromTicks(-1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Delays(TimeSpan.Zero, TimeSpan.FromTicks(-1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetryPolicy.Default.Decide(0, 20, Any));
    }
}
