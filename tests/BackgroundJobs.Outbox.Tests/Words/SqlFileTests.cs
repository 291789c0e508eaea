namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class SqlFileTests
{
    private static SqlFile Read(string schema) => SqlFile.Read(typeof(SqlFileTests).Assembly, "words/example.sql", schema);

    [Fact]
    public void Parameters_are_numbered_in_the_order_they_first_stand() => Assert.Equal(["second", "first", "ids"], Read("outbox").Parameters);

    [Fact]
    public void The_text_has_numbers_no_comments_and_leaves_operators_and_addresses_alone() => Assert.Equal(
        """
        SELECT $1::text, $2, $1
        FROM outbox.jobs
        WHERE args @> '{}'
          AND headers ->> 'mail' = 'someone@example.org'
          AND id = ANY ($3::uuid[])
        """.ReplaceLineEndings("\n"),
        Read("outbox").Text.ReplaceLineEndings("\n"));

    [Fact]
    public void Named_text_is_the_file_as_it_is() => Assert.Contains("-- A comment with @not_a_parameter.", Read("outbox").Named, StringComparison.Ordinal);

    [Fact]
    public void Another_schema_is_quoted_and_read_beside_the_first()
    {
        Assert.Contains("FROM \"order\".jobs", Read("order").Text, StringComparison.Ordinal);
        Assert.Contains("FROM outbox.jobs", Read("outbox").Text, StringComparison.Ordinal);
        Assert.Same(Read("order"), Read("order"));
    }

    [Fact]
    public void A_file_that_is_not_there_is_named()
    {
        var error = Assert.Throws<InvalidOperationException>(() => SqlFile.Read(typeof(SqlFileTests).Assembly, "words/no_such.sql", "outbox"));
        Assert.Contains("words/no_such.sql", error.Message, StringComparison.Ordinal);
    }

    [Fault("P24", "a schema's name so long that the channel's would be cut", "refused; no queue's name is in the channel's")]
    [Fault("X05", "a schema's name that could say more than a name", "refused")]
    [Theory]
    [InlineData("Outbox")]
    [InlineData("a\"; DROP SCHEMA public; --")]
    [InlineData("1st")]
    [InlineData("")]
    [InlineData("a_name_that_is_longer_than_forty_one_chars")]
    public void A_schema_name_that_could_say_more_than_a_name_is_refused(string schema)
    {
        var error = Assert.Throws<OutboxException>(() => new OutboxOptions { Schema = schema });
        Assert.Contains("Schema name", error.Message, StringComparison.Ordinal);
    }
}
