using BackgroundJobs.Outbox.Postgres;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// One of the library's statements, broken: a text in place of another.
internal sealed record Mutant(string What, string File, params IReadOnlyList<(string From, string To)> Edits)
{
    public override string ToString() => What;

    public void Check() => Apply(File, SqlFile.Read(typeof(JobQueue).Assembly, $"sql/{File}.sql", JobDefaults.Schema).Text);

    public string Apply(string file, string sql)
    {
        if (file != File)
            return sql;
        foreach (var (from, to) in Edits)
        {
            Assert.Contains(from, sql, StringComparison.Ordinal);
            sql = sql.Replace(from, to, StringComparison.Ordinal);
        }

        return sql;
    }
}
