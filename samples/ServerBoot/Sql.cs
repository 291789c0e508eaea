namespace ServerBoot;

// The SQL of the sample stands in files, and is built into it.
internal static class Sql
{
    public static string Read(string name)
    {
        using var stream = typeof(Sql).Assembly.GetManifestResourceStream($"{name}.sql")
            ?? throw new InvalidOperationException($"{name}.sql is not part of the sample's assembly.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
