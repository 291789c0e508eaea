using System.Text;
using System.Text.Json;

namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class JobJsonTests
{
    private static readonly OutboxOptions Options = new();

    private static T Read<T>(string json) => JobJson.Read<T>(Encoding.UTF8.GetBytes(json), Options);

    [Fact]
    public void Arguments_come_back_as_they_were()
    {
        var job = new SendMail(7, "Grüße, \"世界\" 🎉 \\u0000", ["a", "b"], null);
        var json = JobJson.WriteArgs(job, "send_mail", Options);
        Assert.StartsWith("{\"to\":7,", json, StringComparison.Ordinal);
        var read = Read<SendMail>(json);
        Assert.Equal((job.To, job.Text, job.Note), (read.To, read.Text, read.Note));
        Assert.Equal(job.Tags, read.Tags);
    }

    // No InlineData: an attribute keeps its texts as UTF-8, which would mend them.
    public static TheoryData<string> Unstorable => ["NUL: \0", "high alone: \ud83c", "low alone: \udf89 and more", "wrong order: \udf89\ud83c"];

    [Theory]
    [MemberData(nameof(Unstorable), DisableDiscoveryEnumeration = true)]
    public void A_text_that_postgres_cannot_store_is_refused(string text)
    {
        foreach (var job in new[] { new SendMail(1, text, [], null), new SendMail(1, "", [text], null), new SendMail(1, "", [], text) })
        {
            var error = Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(job, "send_mail", Options));
            Assert.Contains("Job 'send_mail'", error.Message, StringComparison.Ordinal);
        }

        Assert.Throws<InvalidJobException>(() => JobJson.WriteHeaders(new Dictionary<string, string> { ["a"] = text }, "send_mail"));
        Assert.Throws<InvalidJobException>(() => JobJson.WriteHeaders(new Dictionary<string, string> { [text] = "a" }, "send_mail"));
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new Bag(new() { [text] = 1 }), "bag", Options));
    }

    [Fact]
    public void A_nul_that_a_character_or_raw_json_brings_is_refused_too()
    {
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new Letter('\0'), "letter", Options));
        using var document = JsonDocument.Parse("{\"a\": \"\\u0000\"}");
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new Raw(document.RootElement), "raw", Options));
    }

    [Fault("D01", "arguments above the limit", "refused before any SQL, with sizes")]
    [Fact]
    public void The_size_is_bounded_in_bytes_and_the_message_says_kind_and_sizes()
    {
        var small = new OutboxOptions { MaxArgsBytes = 100 };
        var error = Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new SendMail(1, new string('ü', 60), [], null), "send_mail", small));
        Assert.Contains("'send_mail'", error.Message, StringComparison.Ordinal);
        Assert.Contains("more than the 100 allowed", error.Message, StringComparison.Ordinal);
        Assert.Contains("pass its key", error.Message, StringComparison.Ordinal);
        JobJson.WriteArgs(new SendMail(1, new string('x', 65_000), [], null), "send_mail", Options);
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new SendMail(1, new string('x', 65_536), [], null), "send_mail", Options));
        Assert.Throws<InvalidJobException>(() => JobJson.WriteHeaders(new Dictionary<string, string> { ["a"] = new('x', 16_384) }, "send_mail"));
    }

    [Fact]
    public void Arguments_that_are_no_object_are_refused()
    {
        Assert.Contains("no JSON object", Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new List<int> { 1 }, "list", Options)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(7, "seven", Options));
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs<SendMail?>(null, "nothing", Options));
    }

    [Fact]
    public void What_does_not_serialise_is_refused_with_the_reason()
    {
        var loop = new Loop();
        loop.Next = loop;
        Assert.Contains("do not serialise", Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(loop, "loop", Options)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidJobException>(() => JobJson.WriteArgs(new Number(double.NaN), "number", Options));
    }

    [Theory]
    [InlineData("{\"to\":1,\"text\":\"a\",\"tags\":[],\"note\":null,\"to\":2}")]
    [InlineData("{\"text\":\"a\",\"tags\":[],\"note\":null}")]
    [InlineData("{\"to\":\"1\",\"text\":\"a\",\"tags\":[],\"note\":null}")]
    [InlineData("{\"to\":1,\"text\":null,\"tags\":[],\"note\":null}")]
    [InlineData("{\"To\":1,\"text\":\"a\",\"tags\":[],\"note\":null}")]
    [InlineData("null")]
    [InlineData("[]")]
    public void What_an_older_or_other_version_wrote_fails_with_a_reason_and_not_as_a_silent_0(string json) =>
        Assert.Throws<JsonException>(() => Read<SendMail>(json));

    [Fact]
    public void A_property_that_a_newer_version_added_is_passed_over() =>
        Assert.Equal(1, Read<SendMail>("{\"to\":1,\"text\":\"a\",\"tags\":[],\"note\":null,\"new\":{}}").To);

    [Fact]
    public void Headers_come_back_and_none_are_null()
    {
        var headers = new Dictionary<string, string> { ["tenant"] = "a", ["ü"] = "🎉" };
        Assert.Equal(headers, JobJson.ReadHeaders(JobJson.WriteHeaders(headers, "a")));
        Assert.Null(JobJson.WriteHeaders(null, "a"));
        Assert.Null(JobJson.WriteHeaders(new Dictionary<string, string>(), "a"));
        Assert.Empty(JobJson.ReadHeaders(null));
        Assert.Equal("7", JobJson.ReadHeaders("{\"n\": 7}")["n"]);
    }

    private sealed record SendMail(int To, string Text, string[] Tags, string? Note);

    private sealed record Letter(char Value);

    private sealed record Number(double Value);

    private sealed record Raw(JsonElement Value);

    private sealed record Bag(Dictionary<string, int> Values);

    private sealed class Loop
    {
        public Loop? Next { get; set; }
    }
}
