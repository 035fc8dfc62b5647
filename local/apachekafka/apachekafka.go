// Package apachekafka runs Apache Kafka from its own jars: one node that is broker and controller, on loopback, with one listener for
// each way in which companies secure theirs. It is for tests, and for a look at the system on the real thing; the local runtime's own
// broker starts in milliseconds and needs no Java.
package apachekafka

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"marketdata/local/process"
	"marketdata/shared/freeport"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/secret"
	"marketdata/shared/testenv/certs"
)

//go:embed pom.xml
var pom []byte

// version names the folder of the jars; it is that of pom.xml.
const version = "4.1.0"

// Options says where data and jars are stored.
type Options struct {
	Dir     string // data folder; created if absent, and never used twice
	Cache   string // folder of downloads, which outlives the broker
	Install bool   // may install Debian packages
	Say     func(string)
}

// Broker is a running broker. User "marketdata" may do everything, user "stranger" nothing.
type Broker struct {
	Plain    kafkaclient.Config // without authentication
	servers  string             // of the listener with SASL
	mutual   string             // of the listener with client certificates
	oauth    string             // of the listener with tokens
	password string
	ca       string
	client   certs.Pair
	process  *process.Process
	log      *os.File
}

// startWait bounds the start of the broker, which takes about five seconds on two cores.
const startWait = 90 * time.Second

// Start starts a broker, and returns once it answers. It gets the jars from Maven Central if the cache does not have them.
func Start(ctx context.Context, o Options) (*Broker, error) {
	var err error
	if o.Cache, err = filepath.Abs(o.Cache); err != nil { // Maven takes a relative path for one beside pom.xml
		return nil, fmt.Errorf("cache of downloads: %w", err)
	}
	libs, err := fetch(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder of apache kafka: %w", err)
	}
	b := &Broker{}
	classpath := filepath.Join(libs, "*")
	if err := b.prepare(ctx, o.Dir, classpath); err != nil {
		return nil, err
	}
	if err := b.run(ctx, o, classpath); err != nil {
		b.Stop(context.WithoutCancel(ctx))
		return nil, err
	}
	return b, nil
}

// Stop stops the broker, and kills it when ctx ends.
func (b *Broker) Stop(ctx context.Context) {
	if b.process != nil {
		b.process.Stop(ctx)
	}
	if b.log != nil {
		_ = b.log.Close()
	}
}

// SASL returns the settings of a client that authenticates over TLS with a mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
func (b *Broker) SASL(mechanism, user string) kafkaclient.Config {
	c := kafkaclient.At(b.servers)
	for name, value := range map[string]string{
		"security.protocol": "SASL_SSL", "ssl.ca.pem": b.ca, "sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": b.password,
	} {
		c.Properties[name] = secret.Value(value)
	}
	return c
}

// MutualTLS returns the settings of a client that authenticates by a certificate.
func (b *Broker) MutualTLS() kafkaclient.Config {
	c := kafkaclient.At(b.mutual)
	for name, value := range map[string]string{
		"security.protocol": "SSL", "ssl.ca.pem": b.ca, "ssl.certificate.pem": string(b.client.Certificate), "ssl.key.pem": string(b.client.Key),
	} {
		c.Properties[name] = secret.Value(value)
	}
	return c
}

// OIDC returns the settings of a client that authenticates with tokens, which it gets from an endpoint for its id and secret. The broker
// takes tokens without a signature: what it is to try is how clients get and use them.
func (b *Broker) OIDC(endpoint, id, clientSecret string) kafkaclient.Config {
	c := kafkaclient.At(b.oauth)
	for name, value := range map[string]string{
		"security.protocol": "SASL_SSL", "ssl.ca.pem": b.ca, "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc",
		"sasl.oauthbearer.token.endpoint.url": endpoint, "sasl.oauthbearer.client.id": id, "sasl.oauthbearer.client.secret": clientSecret,
	} {
		c.Properties[name] = secret.Value(value)
	}
	return c
}

// prepare writes the certificates and the settings, and formats the storage, which also makes the users.
func (b *Broker) prepare(ctx context.Context, dir, classpath string) error {
	authority, err := certs.New("apache kafka on loopback")
	if err != nil {
		return err
	}
	server, err := authority.Issue("broker")
	if err != nil {
		return err
	}
	if b.client, err = authority.Issue("marketdata"); err != nil {
		return err
	}
	b.ca, b.password = string(authority.PEM), rand.Text()
	var ports [5]int
	for i := range ports {
		if ports[i], err = freeport.Find(ctx); err != nil {
			return err
		}
	}
	at := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	b.Plain, b.servers, b.mutual, b.oauth = kafkaclient.At(at(1)), at(2), at(3), at(4)
	for name, text := range map[string][]byte{
		"ca.pem": authority.PEM, "server.pem": append(server.Key, server.Certificate...), "server.properties": []byte(b.settings(dir, at)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	// The id is not an argument of its own: one in 64 begins with a dash.
	args := []string{"-cp", classpath, "kafka.tools.StorageTool", "format", "--cluster-id=" + base64.RawURLEncoding.EncodeToString(id), "-c", filepath.Join(dir, "server.properties")}
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		for _, user := range []string{"marketdata", "stranger"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, b.password))
		}
	}
	if out, err := exec.CommandContext(ctx, "java", args...).CombinedOutput(); err != nil { //nolint:gosec // our own arguments
		return fmt.Errorf("format the storage of apache kafka: %w\n%s", err, out)
	}
	return nil
}

// settings returns server.properties. Only the jar's own defaults matter for what is not in it.
func (b *Broker) settings(dir string, at func(int) string) string {
	plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, user := range []string{"marketdata", "stranger"} {
		plain += fmt.Sprintf(" user_%s=%q", user, b.password)
	}
	const token = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";"
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	return strings.Join([]string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + at(0), "controller.listener.names=CONTROLLER",
		"listeners=CONTROLLER://" + at(0) + ",PLAIN://" + at(1) + ",SASL://" + at(2) + ",MUTUAL://" + at(3) + ",OAUTH://" + at(4),
		"advertised.listeners=PLAIN://" + at(1) + ",SASL://" + at(2) + ",MUTUAL://" + at(3) + ",OAUTH://" + at(4),
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,OAUTH:SASL_SSL", "inter.broker.listener.name=PLAIN",
		"log.dirs=" + filepath.Join(dir, "data"), "auto.create.topics.enable=false", "group.initial.rebalance.delay.ms=0",
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + filepath.Join(dir, "server.pem"),
		"ssl.truststore.type=PEM", "ssl.truststore.location=" + filepath.Join(dir, "ca.pem"), "listener.name.mutual.ssl.client.auth=required",
		"listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.sasl.plain.sasl.jaas.config=" + plain + ";",
		"listener.name.sasl.scram-sha-256.sasl.jaas.config=" + scram, "listener.name.sasl.scram-sha-512.sasl.jaas.config=" + scram,
		"listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER", "listener.name.oauth.oauthbearer.sasl.jaas.config=" + token,
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS;User:marketdata;User:CN=marketdata",
	}, "\n") + "\n"
}

func (b *Broker) run(ctx context.Context, o Options, classpath string) error {
	var err error
	if b.log, err = os.Create(filepath.Join(o.Dir, "kafka.log")); err != nil {
		return fmt.Errorf("open log of apache kafka: %w", err)
	}
	b.process, err = process.Start(process.Options{
		Name: "apache kafka",
		Command: func() *exec.Cmd {
			cmd := exec.Command("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.Kafka", //nolint:gosec,noctx // ended by Stop
				filepath.Join(o.Dir, "server.properties"))
			cmd.Stdout, cmd.Stderr = b.log, b.log
			return cmd
		},
		StopSignal: syscall.SIGTERM, StopWait: 15 * time.Second, Orphan: syscall.SIGKILL, Say: o.Say,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	admin, err := kafka.NewAdminClient(b.Plain.Map(kafka.ConfigMap{"enable.metrics.push": false, "go.logs.channel.enable": true, "reconnect.backoff.max.ms": 200}))
	if err != nil {
		return fmt.Errorf("connect to apache kafka: %w", err)
	}
	defer admin.Close()
	for {
		metadata, err := admin.GetMetadata(nil, true, 1000)
		if err == nil && len(metadata.Brokers) > 0 {
			o.Say(fmt.Sprintf("kafka: Apache Kafka %s, ready after %.1f s, log in %s", version, time.Since(began).Seconds(), b.log.Name()))
			return nil
		}
		if ctx.Err() != nil || time.Since(began) > startWait {
			return fmt.Errorf("apache kafka does not answer, see %s: %w", b.log.Name(), errors.Join(err, ctx.Err()))
		}
	}
}

// fetch returns the folder of the jars.
func fetch(ctx context.Context, o Options) (string, error) {
	dir := filepath.Join(o.Cache, "apache-kafka-"+version)
	if err := tools(ctx, o); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil { //nolint:gosec // downloads are no secret
		return "", fmt.Errorf("create the cache: %w", err)
	}
	o.Say("kafka: getting Apache Kafka " + version + " from Maven Central (once)")
	work, err := os.MkdirTemp(o.Cache, "apache-kafka-")
	if err != nil {
		return "", fmt.Errorf("create the cache: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // best effort
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o600); err != nil {
		return "", fmt.Errorf("write pom.xml: %w", err)
	}
	cmd := exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", filepath.Join(work, "pom.xml"), "dependency:copy-dependencies", "-DoutputDirectory="+filepath.Join(work, "libs")) //nolint:gosec // our own arguments
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("get apache kafka: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(work, "libs"), dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("keep apache kafka: %w", err)
	}
	return dir, nil
}

// tools installs Java and Maven if they are missing and may be installed.
func tools(ctx context.Context, o Options) error {
	_, javaErr := exec.LookPath("java")
	_, mavenErr := exec.LookPath("mvn")
	if javaErr == nil && mavenErr == nil {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if !o.Install || os.Geteuid() != 0 || err != nil {
		return errors.New("no Java 17 or newer, or no Maven, which KAFKA=apache needs: install them (Debian: 'apt-get install default-jre-headless maven')")
	}
	o.Say("kafka: installing Debian's packages default-jre-headless and maven")
	cmd := exec.CommandContext(ctx, "sh", "-c", apt+" update -qq && DEBIAN_FRONTEND=noninteractive "+apt+" install -y -qq --no-install-recommends default-jre-headless maven") //nolint:gosec // the command is constant
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install java and maven: %w\n%s", err, out)
	}
	return nil
}
