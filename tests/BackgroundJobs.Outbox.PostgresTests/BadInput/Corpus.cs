using CsCheck;

namespace BackgroundJobs.Outbox.PostgresTests.BadInput;

// What others may send: the usual suspects by hand, and whatever the generators come to.
internal static class Corpus
{
    public static Gen<string> Texts { get; } = Gen.Frequency(
        (3, Gen.String),
        (2, Gen.String[Gen.Char.AlphaNumeric, 0, 40]),
        (5, Gen.OneOf(
            "", " ", "default", "a", "A", "*", "\"", "'; DROP TABLE outbox.jobs; --", "$1", "@queue", "a b", "a\nb", "a\r\nX: y", "\0", "a\0b", "\ud800", "\udc00x", "😀",
            "\u202eabc", "ﬁ", "é", "e\u0301", new string('x', 63), new string('x', 64), new string('x', 10_000), "System.Diagnostics.Process, System", "outbox.jobs", "<script>alert(1)</script>")));

    public static Gen<string> Json { get; } = Gen.Frequency(
        (4, Gen.Int.Select(Gen.String[Gen.Char.AlphaNumeric, 0, 20], (number, text) => $$"""{"number":{{number}},"text":"{{text}}"}""")),
        (6, Gen.OneOf(
            "{}", """{"number":1}""", """{"number":"1","text":"a"}""", """{"number":null,"text":null}""", """{"number":1,"text":"a","more":[1,{}]}""", """{"number":1e400,"text":"a"}""",
            """{"number":9007199254740993,"text":"a"}""", """{"number":1.5,"text":"a"}""", """{"number":1,"number":2,"text":"a"}""", """{"Number":1,"Text":"a"}""",
            """{"$type":"System.Diagnostics.Process, System","number":1,"text":"a"}""", """{"__proto__":{"number":1},"number":1,"text":"a"}""", """{"number":1,"text":"\u0000"}""",
            """{"number":1,"text":"\ud800"}""", """{"number":NaN,"text":"a"}""", "[]", "[1]", "1", "null", "true", "\"text\"", "{", "", "{'number':1}", """{"number":1,"text":"a"} x""",
            Nested(62), Nested(63), Nested(64), Nested(65), Nested(3000), $$"""{"number":1,"text":"{{new string('y', 300_000)}}"}""")));

    public static Gen<string> Moments { get; } = Gen.OneOf(
        "2020-01-01 00:00Z", "1970-01-01 00:00Z", "0001-01-01 00:00Z", "4713-01-01 BC", "0002-01-01 BC", "infinity", "-infinity", "9999-12-31 23:59:59.999999Z", "10000-01-01 00:00Z",
        "294276-12-31", "2021-03-28 02:30 Europe/Berlin", "yesterday", "never", "");

    public static Gen<int> Numbers { get; } = Gen.OneOf(0, 1, 2, 4, 5, 20, -1, 1000, 1001, 32_766, 32_767, 32_768, -32_768, int.MaxValue, int.MinValue);

    // One odd thing at a time, or two: where everything is odd, everything is refused.
    public static Gen<T> Mostly<T>(T good, Gen<T> odd) => Gen.Frequency((12, Gen.Const(good)), (1, odd));

    private static string Nested(int levels) =>
        string.Concat(Enumerable.Repeat("""{"inner":""", levels)) + """{"number":1,"text":"a"}""" + new string('}', levels);
}

internal sealed record CorpusJob(int Number, string Text, CorpusJob? Inner = null) : IJob
{
    public static string Kind => "corpus";
}
