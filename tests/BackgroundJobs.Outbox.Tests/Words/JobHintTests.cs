namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class JobHintTests
{
    [Theory]
    [InlineData("default", "2026-11-24T09:30:00.1234560Z")]
    [InlineData("a.b:c-d_e", "1969-12-31T23:59:59.9999990Z")]
    [InlineData("0", "0001-01-02T00:00:00.0000000Z")]
    [InlineData("0", "9999-12-30T00:00:00.0000000Z")]
    public void A_hint_survives_its_payload(string queue, string moment)
    {
        var hint = new JobHint(queue, DateTimeOffset.Parse(moment, System.Globalization.CultureInfo.InvariantCulture).UtcDateTime);
        Assert.True(JobHint.TryParse(hint.ToPayload(), out var read));
        Assert.Equal(hint, read);
        Assert.Equal(DateTimeKind.Utc, read.RunAt.Kind);
    }

    [Fact]
    public void That_something_is_to_be_compared_is_a_hint_of_no_queue()
    {
        Assert.Equal("settle", JobHint.Unsettled.ToPayload());
        Assert.True(JobHint.TryParse("settle", out var read) && read.IsUnsettled);
        Assert.True(JobHint.TryParse("0 settle", out read) && !read.IsUnsettled);
    }

    [Theory]
    [InlineData("")]
    [InlineData("cancel")]
    [InlineData(" default")]
    [InlineData("123")]
    [InlineData("123 ")]
    [InlineData("123 Bad Queue")]
    [InlineData("12x default")]
    [InlineData("99999999999999999999 default")]
    [InlineData("9223372036854775807 default")]
    [InlineData("-9223372036854775808 default")]
    [InlineData("253402300800000000 default")]
    [InlineData("-62135596800000001 default")]
    public void What_somebody_else_sent_is_no_hint_and_no_error(string payload) => Assert.False(JobHint.TryParse(payload, out _));
}
