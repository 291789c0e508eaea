namespace Invoices;

internal static class Schema
{
    public static async Task<string> ReadAsync()
    {
        using var reader = new StreamReader(typeof(Schema).Assembly.GetManifestResourceStream("schema.sql")!);
        return await reader.ReadToEndAsync();
    }
}
