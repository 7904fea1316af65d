# Three roles. `steps`: the pods of the pipeline. `registry`: MLflow's pods. `people`: who trains on a workstation and pushes images. None may change
# the bucket, its rules or its versions.
locals {
  issuer = replace(var.cluster_oidc_arn, "/^arn:[^/]+:oidc-provider\\//", "")
  store  = aws_s3_bucket.store.arn
  pods = {
    steps    = "system:serviceaccount:hymunet:hymunet-runner"
    registry = "system:serviceaccount:hymunet-registry:registry"
  }
  may = {
    steps    = { read = ["dvc", "checkpoints", "mirror"], write = ["dvc", "checkpoints"], remove = ["checkpoints"] }
    registry = { read = ["mlflow"], write = ["mlflow"], remove = ["mlflow"] }
    people   = { read = ["dvc", "checkpoints", "mirror", "mlflow"], write = ["dvc", "checkpoints", "mirror"], remove = ["checkpoints"] }
  }
}

data "aws_iam_policy_document" "pods" {
  for_each = local.pods
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.cluster_oidc_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [each.value]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "people" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = var.people
    }
  }
}

resource "aws_iam_role" "role" {
  for_each             = local.may
  name                 = "hymunet-${var.environment}-${each.key}"
  max_session_duration = 43200
  assume_role_policy   = each.key == "people" ? data.aws_iam_policy_document.people.json : data.aws_iam_policy_document.pods[each.key].json
}

data "aws_iam_policy_document" "store" {
  for_each = local.may
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.store]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = flatten([for prefix in each.value.read : [prefix, "${prefix}/*"]])
    }
  }
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = [for prefix in each.value.read : "${local.store}/${prefix}/*"]
  }
  statement {
    sid       = "Write"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = [for prefix in each.value.write : "${local.store}/${prefix}/*"]
  }
  statement {
    sid       = "Remove"
    actions   = ["s3:DeleteObject"]
    resources = [for prefix in each.value.remove : "${local.store}/${prefix}/*"]
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.bucket.arn]
  }
}

resource "aws_iam_role_policy" "store" {
  for_each = local.may
  name     = "store"
  role     = aws_iam_role.role[each.key].id
  policy   = data.aws_iam_policy_document.store[each.key].json
}

data "aws_iam_policy_document" "push" {
  statement {
    sid       = "LogIn"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # AWS knows no narrower resource for it
  }
  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages",
      "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = [for repository in aws_ecr_repository.image : repository.arn]
  }
}

resource "aws_iam_role_policy" "push" {
  name   = "push"
  role   = aws_iam_role.role["people"].id
  policy = data.aws_iam_policy_document.push.json
}
