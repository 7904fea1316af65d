# Examples; put your own here. Nothing secret: credentials come from the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID …).
region           = "eu-central-1"
bucket           = "example-hymunet-staging"
cluster_oidc_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
people           = ["arn:aws:iam::123456789012:role/example-researchers"]
