package pg_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
)

func TestNeonIsVerified(t *testing.T) {
	t.Parallel()
	const host = "ep-cool-name-123456.eu-central-1.aws.neon.tech"
	for _, given := range []string{"", "sslmode=allow", "sslmode=prefer", "sslmode=require", "sslmode=verify-full", "sslmode=require channel_binding=require", "sslmode=require sslsni=0", "sslmode=require sslnegotiation=direct"} {
		d, err := pg.ParseDSN(fmt.Sprintf("host=%s user=u password=p dbname=d %s", host, given))
		require.NoError(t, err)
		for _, c := range []pg.DSN{d, d.WithUser("v", "q"), d.WithDatabase("e")} {
			cfg := c.Config()
			require.NotNil(t, cfg.TLSConfig, given)
			require.False(t, cfg.TLSConfig.InsecureSkipVerify, given)
			require.Equal(t, host, cfg.TLSConfig.ServerName, given)
			require.EqualValues(t, tls.VersionTLS12, cfg.TLSConfig.MinVersion)
			require.Equal(t, "require", cfg.ChannelBinding, given)
			for _, f := range cfg.Fallbacks {
				require.NotNil(t, f.TLSConfig, given)
				require.False(t, f.TLSConfig.InsecureSkipVerify, given)
			}
		}
	}
	d, err := pg.ParseDSN("host=" + host + " user=u dbname=d sslmode=disable")
	require.NoError(t, err)
	require.Nil(t, d.Config().TLSConfig, "Neon refuses it with words of its own")
	d, err = pg.ParseDSN("host=" + host + " user=u dbname=d sslmode=require channel_binding=disable")
	require.NoError(t, err)
	require.Equal(t, "disable", d.Config().ChannelBinding)

	// Two hosts: each by its own name.
	d, err = pg.ParseDSN("host=db.example," + host + " user=u dbname=d sslmode=prefer")
	require.NoError(t, err)
	cfg := d.Config()
	require.True(t, cfg.TLSConfig.InsecureSkipVerify)
	require.Equal(t, "prefer", cfg.ChannelBinding)
	seen := 0
	for _, f := range cfg.Fallbacks {
		if f.Host == host {
			require.False(t, f.TLSConfig.InsecureSkipVerify)
			seen++
		}
	}
	require.Equal(t, 1, seen)
}

func TestOthersAreLeft(t *testing.T) {
	t.Parallel()
	for host, neon := range map[string]bool{
		"ep-a.neon.tech": true, "EP-A.Neon.Tech.": true, "ep-a.eastus2.azure.neon.tech": true, "x.neon.build": true,
		"neon.tech": false, "evil-neon.tech": false, "neon.tech.example": false, "127.0.0.1": false, "/tmp": false, "": false,
	} {
		require.Equal(t, neon, pg.IsNeon(host), host)
	}
	d, err := pg.ParseDSN("host=db.example user=u dbname=d sslmode=require")
	require.NoError(t, err)
	require.True(t, d.Config().TLSConfig.InsecureSkipVerify, "what libpq's require means")
	require.Equal(t, "prefer", d.Config().ChannelBinding)
}
